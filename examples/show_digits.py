"""Show a few handwritten digits and what a trained LeNet-5 takes them for.

Usage: python examples/show_digits.py WEIGHTS.safetensors [PROGRAM.cnn]
"""

from __future__ import annotations

import sys

import numpy as np

import cnnc
from cnnc.resources import resource
from cnnc.train import load_checkpoint, load_data

SHOWN = 8
PER_ROW = 4
SHADES = " .:-=+*#%@"


def main(weights: str, program: str) -> None:
    checkpoint = load_checkpoint(weights)
    net = cnnc.compile(program)
    net.load_state_dict(checkpoint.state)
    # The same seed gives the same split, so none of these digits was trained on.
    held_back = load_data("digits", net.input_shape, net.classes, seed=checkpoint.seed).validation
    answers = np.asarray(net(held_back.x)).argmax(axis=1)
    wrong = np.flatnonzero(answers != held_back.y)

    print("Digits it had never seen:\n")
    show(held_back.x[:SHOWN], [f"read as {answer}" for answer in answers[:SHOWN]])
    if len(wrong):
        print("What it got wrong:\n")
        shown = wrong[:PER_ROW]
        show(held_back.x[shown], [f"read as {answers[index]}, is {held_back.y[index]}" for index in shown])
    print(f"{len(answers) - len(wrong)} of {len(answers)} are right: {1 - len(wrong) / len(answers):.4f}")


def show(images: np.ndarray, captions: list[str]) -> None:
    """Print images ``[N, H, W, C]`` in characters, some to a row."""
    for start in range(0, len(images), PER_ROW):
        pictures = [picture(image[..., 0]) for image in images[start : start + PER_ROW]]
        width = len(pictures[0][0]) + 2
        for line in zip(*pictures, strict=True):
            print("".join(part.ljust(width) for part in line).rstrip())
        print(
            "".join(caption.center(width - 2) + "  " for caption in captions[start : start + PER_ROW]).rstrip() + "\n"
        )


def picture(image: np.ndarray) -> list[str]:
    """The middle of an image in shades of grey; every second line, as characters are twice as high as wide."""
    margin = len(image) // 8
    middle = image[margin : len(image) - margin : 2, margin : image.shape[1] - margin]
    low, high = image.min(), image.max()
    shades = np.rint((middle - low) / max(high - low, 1e-6) * (len(SHADES) - 1)).astype(int)
    return ["".join(SHADES[shade] for shade in row) for row in shades]


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    try:
        main(sys.argv[1], sys.argv[2] if len(sys.argv) == 3 else str(resource("models", "lenet5.cnn")))
    except (cnnc.CnnError, OSError) as error:
        sys.exit(f"show_digits: {error}")
