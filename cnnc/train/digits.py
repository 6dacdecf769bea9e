"""scikit-learn's bundled handwritten digits, enlarged to a network's input."""

from __future__ import annotations

import importlib

import numpy as np

from cnnc.errors import UsageError
from cnnc.ir.types import format_shape
from cnnc.train.protocol import Array

SIDE = 8  # pixels of a scan
SHARE = 22 / 32  # of the input's smaller side that a scan gets; LeNet-5 saw digits of 20 to 28 pixels on 32


def load_digits(input_shape: tuple[int, ...]) -> list[tuple[Array, Array]]:
    """The 1797 scans of 8x8 as one part: float32 ``[1797, H, W, C]`` and their labels.

    As in MNIST, a scan is enlarged (bilinearly, to 22/32 of the input's smaller side), laid with its centre of
    mass on the middle of the input, and repeated for each channel. Pixels are scaled to mean 0 and variance 1
    over all scans, as the LeNet-5 paper asks for.

    Raises:
        UsageError: scikit-learn is missing, or the input is no image of at least 8x8.
    """
    if len(input_shape) != 3 or min(input_shape[:2]) < SIDE:
        raise UsageError(f"digits needs an input of at least 8x8x1, the network's is {format_shape(input_shape)}")
    images, labels = _scans()
    height, width, channels = input_shape
    side = max(SIDE, round(min(height, width) * SHARE))
    rows = _interpolation(height, side, images.sum(axis=2))
    columns = _interpolation(width, side, images.sum(axis=1))
    placed = rows @ images @ columns.transpose(0, 2, 1)
    scaled = ((placed - placed.mean()) / placed.std()).astype(np.float32)
    return [(np.repeat(scaled[..., np.newaxis], channels, axis=3), labels)]


def _scans() -> tuple[Array, Array]:
    """Scans ``[1797, 8, 8]`` from 0 (paper) to 16 (ink) and labels."""
    try:
        datasets = importlib.import_module("sklearn.datasets")
    except ImportError as error:
        raise UsageError("digits comes from scikit-learn: pip install 'cnnc[data]'") from error
    bunch = datasets.load_digits()
    return bunch.images, bunch.target


def _interpolation(extent: int, side: int, ink: Array) -> Array:
    """Matrices ``[N, extent, 8]`` that enlarge one axis to ``side`` pixels, centred by mass; paper outside.

    ``ink`` ``[N, 8]`` is the mass along the axis. Row i weighs the scan's pixels by their distance from where
    the centre of pixel i falls on the scan, 1 at distance 0 and 0 from distance 1 on.
    """
    pixels = np.arange(SIDE)
    centre = ink @ pixels / ink.sum(axis=1)
    position = (np.arange(extent) - (extent - 1) / 2) * SIDE / side + centre[:, np.newaxis]
    weights: Array = np.maximum(0.0, 1 - np.abs(position[..., np.newaxis] - pixels))
    return weights
