"""Reading numpy's files from strangers: never a pickle, and every failure one sentence."""

from __future__ import annotations

import math
import zipfile
import zlib

import numpy as np

from cnnc.errors import UsageError
from cnnc.train.protocol import Array

# What numpy and zipfile raise for damaged, encrypted, truncated or pickled content.
_DAMAGED = (ValueError, EOFError, KeyError, RuntimeError, MemoryError, SyntaxError, zipfile.BadZipFile, zlib.error)


def read_array(path: str) -> Array:
    """The array of an ``.npy`` file.

    Raises:
        UsageError: it is not one, or holds Python objects.
        OSError: the file can't be read.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
    except _DAMAGED as error:
        raise UsageError(f"{path}: not a readable .npy file of numbers") from error
    if not isinstance(loaded, np.ndarray):
        loaded.close()
        raise UsageError(f"{path}: an .npz archive; give an .npy file with one array")
    return loaded


def read_archive(path: str) -> dict[str, Array]:
    """The arrays of an ``.npz`` file by key.

    Raises:
        UsageError: it is not one, or holds Python objects.
        OSError: the file can't be read.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise UsageError(f"{path}: one array; give an .npz archive with keys x and y")
        with loaded:
            return {key: loaded[key] for key in loaded.files}
    except _DAMAGED as error:
        raise UsageError(f"{path}: not a readable .npz file of numbers") from error


def require_finite(name: str, x: Array) -> None:
    """Raises:
    UsageError: an image of ``x`` ``[N, ...]`` has a pixel that is NaN or infinite.
    """
    bad = np.flatnonzero(~np.isfinite(x).reshape(len(x), -1).all(axis=1))
    if len(bad):
        raise UsageError(f"{name}: image {bad[0]} has pixels that are not finite numbers")


def pixels(name: str, x: Array) -> Array:
    """Images in float32: bytes (uint8) become numbers from 0 to 1, all else is taken as it is.

    Raises:
        UsageError: not numbers.
    """
    if x.dtype.kind not in "fiub":
        raise UsageError(f"{name}: images must be numbers, not {x.dtype}")
    # A number too large for float32 becomes inf; whoever uses the images refuses it with other bad pixels.
    with np.errstate(over="ignore"):
        converted: Array = x.astype(np.float32)
    return converted / np.float32(255) if x.dtype == np.uint8 else converted


def label_map(labels: Array, shape: tuple[int, ...]) -> Array:
    """Labels ``[N]`` as ``[N, 1, 1]`` for a network whose output has just one position; all others as they are."""
    if labels.ndim == 1 and math.prod(shape) == 1:
        return labels.reshape(-1, *shape)
    return labels


def label_hint(labels: Array, shape: tuple[int, ...]) -> str:
    """What to do about one label per image for a network that gives an image more."""
    if labels.ndim == 1 and shape:
        return "; for one label per image end the program with `fc` or a global pool"
    return ""
