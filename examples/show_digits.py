"""Show a few handwritten digits and what a trained LeNet-5 takes them for.

Usage: python examples/show_digits.py WEIGHTS.safetensors [PROGRAM.cnn]
"""

from __future__ import annotations

import sys

import numpy as np

import cnnc
from cnnc.resources import resource
from cnnc.train import load_checkpoint, load_data

SHOWN = 6
SHADES = " .:-=+*#%@"


def main(weights: str, program: str) -> None:
    checkpoint = load_checkpoint(weights)
    net = cnnc.compile(program)
    net.load_state_dict(checkpoint.state)
    # The same seed gives the same split, so none of these digits was trained on.
    held_back = load_data("digits", net.input_shape, net.classes, seed=checkpoint.seed).validation
    output = np.asarray(net(held_back.x))
    answers = output.argmax(axis=1)
    wrong = np.flatnonzero(answers != held_back.y)
    for index in [*range(SHOWN), *wrong[:2]]:
        verdict = "right" if answers[index] == held_back.y[index] else f"wrong: it is a {held_back.y[index]}"
        print(picture(held_back.x[index, ..., 0]))
        print(f"digit {index}: looks like a {answers[index]} ({verdict})\n")
    print(f"{len(answers) - len(wrong)} of {len(answers)} digits it had never seen are right: ", end="")
    print(f"{1 - len(wrong) / len(answers):.4f}")


def picture(image: np.ndarray) -> str:
    """Characters for shades of grey; every second line, as characters are twice as high as wide."""
    low, high = image.min(), image.max()
    shades = np.rint((image - low) / max(high - low, 1e-6) * (len(SHADES) - 1)).astype(int)
    inked = np.flatnonzero((shades > 0).any(axis=1))
    rows = shades[inked[0] : inked[-1] + 1 : 2] if len(inked) else shades[:1]
    return "\n".join("".join(SHADES[shade] for shade in row).rstrip() for row in rows)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    try:
        main(sys.argv[1], sys.argv[2] if len(sys.argv) == 3 else str(resource("models", "lenet5.cnn")))
    except (cnnc.CnnError, OSError) as error:
        sys.exit(f"show_digits: {error}")
