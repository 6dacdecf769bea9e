"""scikit-learn's bundled handwritten digits, enlarged to a network's input."""

from __future__ import annotations

import importlib

import numpy as np

from cnnc.errors import UsageError
from cnnc.ir.types import format_shape
from cnnc.train.protocol import Array

SIDE = 8  # pixels of a scan
MARGIN = 1 / 8  # of the smaller side of the input, left black on each side as MNIST leaves it


def load_digits(input_shape: tuple[int, ...]) -> list[tuple[Array, Array]]:
    """The 1797 scans of 8x8 as one part: float32 ``[1797, H, W, C]`` and their labels.

    A scan is enlarged bilinearly to three quarters of the input's smaller side, centred on black and
    repeated for each channel. Ink is 1, paper 0.

    Raises:
        UsageError: scikit-learn is missing, or the input is no image of at least 8x8.
    """
    if len(input_shape) != 3 or min(input_shape[:2]) < SIDE:
        raise UsageError(f"digits needs an input of at least 8x8x1, the network's is {format_shape(input_shape)}")
    images, labels = _scans()
    height, width, channels = input_shape
    side = max(SIDE, round(min(height, width) * (1 - 2 * MARGIN)))
    enlarged = _enlarge(images, side)
    top, left = (height - side) // 2, (width - side) // 2
    canvas = np.zeros((len(images), height, width, channels), np.float32)
    canvas[:, top : top + side, left : left + side] = enlarged[..., np.newaxis]
    return [(canvas, labels)]


def _scans() -> tuple[Array, Array]:
    """Scans ``[1797, 8, 8]`` from 0 to 1 and labels."""
    try:
        datasets = importlib.import_module("sklearn.datasets")
    except ImportError as error:
        raise UsageError("digits comes from scikit-learn: pip install 'cnnc[data]'") from error
    bunch = datasets.load_digits()
    return bunch.images / 16.0, bunch.target


def _enlarge(images: Array, side: int) -> Array:
    """Bilinear interpolation to ``side`` x ``side``; pixel centres at (i + 1/2) * 8 / side, edges held."""
    weights = _interpolation(side)
    enlarged: Array = weights @ images @ weights.T
    return enlarged


def _interpolation(side: int) -> Array:
    """The matrix ``[side, 8]`` that interpolates one axis."""
    position = np.clip((np.arange(side) + 0.5) * SIDE / side - 0.5, 0, SIDE - 1)
    low = np.minimum(position.astype(int), SIDE - 2)
    matrix = np.zeros((side, SIDE))
    matrix[np.arange(side), low] = 1 - (position - low)
    matrix[np.arange(side), low + 1] = position - low
    return matrix
