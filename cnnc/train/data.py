"""Data to train on: a name such as ``digits``, or an ``.npz`` file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cnnc.errors import UsageError
from cnnc.ir.types import format_shape
from cnnc.train.arrays import label_hint, label_map, require_finite
from cnnc.train.digits import load_digits
from cnnc.train.npz import load_npz
from cnnc.train.protocol import Array

VALIDATION_PARTS = 5  # one of them is held back
NAMED = {"digits": load_digits}


@dataclass(frozen=True)
class Split:
    """Images ``[N, *shape]`` in float32 and their classes, int32 ``[N]`` or a map ``[N, ...]``."""

    x: Array
    y: Array

    def __len__(self) -> int:
        return len(self.x)

    def take(self, index: Array) -> Split:
        return Split(self.x[index], self.y[index])


@dataclass(frozen=True)
class Dataset:
    """What to train on and what to measure on."""

    name: str
    train: Split
    validation: Split


def load_data(
    source: str, input_shape: tuple[int, ...], classes: int, *, label_shape: tuple[int, ...] = (), seed: int = 0
) -> Dataset:
    """The data called ``source``, checked against a network's input, the shape of an image's labels and the classes.

    ``digits`` is scikit-learn's 1797 scans. A file name ends in ``.npz`` and holds ``x`` and ``y``, or
    ``x_train``, ``y_train`` and ``x_test``, ``y_test``. Without a test part a seeded random fifth is held
    back for validation (digits: 1437 + 360).

    Raises:
        UsageError: no such data, or it does not fit the network.
        OSError: the file can't be read.
    """
    if source in NAMED:
        parts = NAMED[source](input_shape)
    elif source.endswith(".npz"):
        parts = load_npz(source, input_shape, label_shape)
    else:
        known = ", ".join(sorted(NAMED))
        raise UsageError(f"no data called {source!r}: give {known} or a file name that ends in .npz")
    splits = [_checked(source, *part, input_shape, label_shape, classes) for part in parts]
    if len(splits) == 1:
        splits = list(_random_split(source, splits[0], seed))
    return Dataset(source, splits[0], splits[1])


def _checked(
    source: str, x: Array, y: Array, shape: tuple[int, ...], label_shape: tuple[int, ...], classes: int
) -> Split:
    """The arrays as the loop wants them, or a sentence about the first thing wrong with them."""
    if x.shape[1:] != shape:
        raise UsageError(
            f"{source}: images are {format_shape(x.shape[1:])}, the network's input is {format_shape(shape)}"
        )
    y = label_map(y, label_shape)
    wanted = (len(x), *label_shape)
    if y.shape != wanted:
        one_hot = f"; classes as numbers are y.argmax(axis={len(wanted)})" if y.shape == (*wanted, classes) else ""
        hint = one_hot or label_hint(y, label_shape)
        raise UsageError(f"{source}: {len(x)} images need labels of shape {wanted}, not {y.shape}{hint}")
    if not len(x):
        raise UsageError(f"{source}: no images")
    _check_labels(source, y, classes)
    require_finite(source, x)
    return Split(np.ascontiguousarray(x, np.float32), y.astype(np.int32))


def _check_labels(source: str, y: Array, classes: int) -> None:
    if y.dtype.kind not in "iu":
        raise UsageError(f"{source}: labels must be integers, not {y.dtype}")
    bad = np.argwhere((y < 0) | (y >= classes))
    if len(bad):
        index = tuple(bad[0].tolist())
        place = index[0] if len(index) == 1 else index
        raise UsageError(
            f"{source}: label {y[index]} at index {place} is out of range: the network has {classes} classes"
        )


def _random_split(source: str, whole: Split, seed: int) -> tuple[Split, Split]:
    if len(whole) < 2:
        raise UsageError(f"{source}: one image can't be split into training and validation")
    order = np.random.default_rng(seed).permutation(len(whole))
    cut = len(whole) - -(-len(whole) // VALIDATION_PARTS)
    return whole.take(order[:cut]), whole.take(order[cut:])
