"""Checks of what callers give: every array that enters a network passes here."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnc.errors import UsageError
from cnnc.ir.types import DTYPES, format_shape
from cnnc.runtime.arrays import Array, Restore, to_numpy
from cnnc.train.arrays import label_hint, label_map

SHORT_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "fp64": "float64"}


def dtype_name(name: str) -> str:
    """The long name of a dtype given by its long or short one."""
    long = SHORT_DTYPES.get(name, name)
    if long not in DTYPES:
        raise UsageError(f"unknown dtype {name!r}; there are {', '.join(DTYPES)}")
    return long


def batch(x: Any, shape: tuple[int, ...], what: str) -> tuple[Array, Restore]:
    """An array ``[N, *shape]`` of real numbers with N >= 1, and how to give back its kind."""
    array, restore = to_numpy(x, what)
    wanted = "x".join(["N", *map(str, shape)])
    if array.shape == shape and shape:
        raise UsageError(f"{what} is one {format_shape(shape)} array; it needs a batch axis in front: {wanted}")
    if array.ndim != len(shape) + 1 or array.shape[1:] != shape:
        raise UsageError(f"{what} is {format_shape(array.shape)}, but the network needs {wanted}")
    if len(array) == 0:
        raise UsageError(f"{what} has no images (N = 0)")
    return array, restore


def labels(target: Any, n: int, shape: tuple[int, ...], classes: int) -> Array:
    """Integer labels ``[N, *shape]`` in ``0 <= label < classes``, as int32; ``shape`` is () for one per image."""
    array, _ = to_numpy(target, "target")
    if array.dtype.kind not in "iu":
        raise UsageError(f"target holds {array.dtype.name}; integer class labels are needed")
    array = label_map(array, shape)
    if array.shape != (n, *shape):
        needed = f"labels {format_shape((n, *shape))}, one per position" if shape else f"{n} labels"
        hint = label_hint(array, shape)
        raise UsageError(f"target is {format_shape(array.shape)}, but {n} images need {needed}{hint}")
    wrong = np.argwhere((array < 0) | (array >= classes))
    if len(wrong):
        index = tuple(wrong[0].tolist())
        place = ", ".join(map(str, index))
        raise UsageError(
            f"target[{place}] is {int(array[index])}, but there are {classes} classes (0 to {classes - 1})"
        )
    return array.astype(np.int32)


def parameter(value: Any, name: str, shape: tuple[int, ...]) -> Array:
    """A finite array for a parameter, in PyTorch's shape."""
    array, _ = to_numpy(value, name)
    if array.shape != shape:
        raise UsageError(f"{name} is {format_shape(array.shape)}, but the network has {format_shape(shape)}")
    if not np.isfinite(array).all():
        raise UsageError(f"{name} holds NaN or infinity")
    return array
