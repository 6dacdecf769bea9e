"""cnnc inside a Python program: compile a text, look at gradients, train, keep the result.

Usage: python examples/python_interface.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import cnnc

PROGRAM = """
model bars
input 12x12x1
conv1: conv 4 3x3 same relu   => 12x12x4
       maxpool 2x2            => 6x6x4
fc1:   fc 2
       softmax
train {
  loss cross_entropy
  optimizer sgd lr=0.05 momentum=0.9
  batch 16; epochs 4
}
"""


def bars(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy images ``[N, 12, 12, 1]`` of a horizontal (0) or vertical (1) bar."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 0.3, (count, 12, 12, 1)).astype(np.float32)
    y = rng.integers(0, 2, count)
    for image, kind, place in zip(x, y, rng.integers(1, 11, count), strict=True):
        if kind == 0:
            image[place] += 1
        else:
            image[:, place] += 1
    return x, y


def main() -> None:
    net = cnnc.compile(PROGRAM, device="cpu", training=True, seed=0)
    x, y = bars(400, seed=1)
    test_x, test_y = bars(200, seed=2)

    loss, grads = net.loss_and_grads(x[:16], y[:16])
    print(f"loss {loss:.4f}; gradients of {', '.join(grads)}")

    for epoch in net.fit(x, y, validation_data=(test_x, test_y)):
        print(f"epoch {epoch.epoch}: loss {epoch.loss:.4f}, validation accuracy {epoch.validation_accuracy:.3f}")

    with tempfile.TemporaryDirectory() as folder:
        net.save(Path(folder) / "bars.cnnc")
        again = cnnc.load(Path(folder) / "bars.cnnc")
    same = np.array_equal(net(test_x), again(test_x))
    print(f"evaluation {net.evaluate(test_x, test_y)}; the saved network gives the same numbers: {same}")


if __name__ == "__main__":
    main()
