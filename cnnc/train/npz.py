"""Images and labels from an ``.npz`` file."""

from __future__ import annotations

import numpy as np

from cnnc.errors import UsageError
from cnnc.train.arrays import pixels, read_archive
from cnnc.train.protocol import Array

Part = tuple[Array, Array]

# Keys in the order tried: (images, labels).
TRAIN_KEYS = (("x_train", "y_train"), ("x", "y"))
TEST_KEYS = (("x_test", "y_test"), ("x_val", "y_val"))


def load_npz(path: str, input_shape: tuple[int, ...], label_shape: tuple[int, ...]) -> list[Part]:
    """The train part, and the test part where the file has one.

    Bytes (uint8) become numbers from 0 to 1, all else is taken as it is; ``[N, H, W]`` becomes
    ``[N, H, W, 1]`` for a net with one channel, labels ``[N, 1]`` become ``[N]``, maps likewise.

    Raises:
        UsageError: a key is missing or an array is not numeric.
        OSError: the file can't be read.
    """
    arrays = read_archive(path)
    train = _find(arrays, TRAIN_KEYS)
    if train is None:
        found = ", ".join(sorted(arrays)) or "nothing"
        raise UsageError(f"{path}: needs the keys x and y, or x_train and y_train; found {found}")
    test = _find(arrays, TEST_KEYS)
    parts = [train] if test is None else [train, test]
    return [(_images(path, x, input_shape), _labels(y, label_shape)) for x, y in parts]


def _find(arrays: dict[str, Array], keys: tuple[tuple[str, str], ...]) -> Part | None:
    for images, labels in keys:
        if images in arrays and labels in arrays:
            return arrays[images], arrays[labels]
    return None


def _images(path: str, x: Array, shape: tuple[int, ...]) -> Array:
    if x.ndim == len(shape) and shape[-1] == 1:
        x = x[..., np.newaxis]
    return pixels(path, x)


def _labels(y: Array, shape: tuple[int, ...]) -> Array:
    return y[..., 0] if y.ndim == len(shape) + 2 and y.shape[-1] == 1 else y
