"""Types of values: shapes as the papers write them (H x W x C), the batch never written."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np


class Element(enum.Enum):
    """What a value's elements are, before a compilation chooses concrete dtypes."""

    REAL = "real"  # activations and matrix operands: the dtype asked for
    ACC = "acc"  # parameters, statistics, sums, losses: float32 (float64 in a float64 run)
    LABEL = "int32"  # class labels
    INDEX = "uint8"  # position of a maximum inside its pooling window


DTYPES = ("float32", "bfloat16", "float16", "float64")
ITEM_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2, "int32": 4, "uint8": 1}


def resolve(element: Element, dtype: str) -> str:
    """The concrete dtype of an element in a compilation for ``dtype``."""
    if element is Element.REAL:
        return dtype
    if element is Element.ACC:
        return "float64" if dtype == "float64" else "float32"
    return str(element.value)


def numpy_dtype(dtype: str) -> np.dtype[np.generic]:
    """How numpy stores a dtype; bfloat16 is kept as its 16 bits."""
    return np.dtype("uint16" if dtype == "bfloat16" else dtype)


@dataclass(frozen=True)
class TensorType:
    """Shape without the batch; ``batched`` values have one such array per image."""

    shape: tuple[int, ...]
    batched: bool = True
    element: Element = Element.REAL

    @property
    def count(self) -> int:
        """Elements of one image (of the whole value, if it is not batched)."""
        return math.prod(self.shape)

    def with_shape(self, *shape: int) -> TensorType:
        return TensorType(tuple(shape), self.batched, self.element)

    def __str__(self) -> str:
        text = format_shape(self.shape)
        return text if self.element is Element.REAL else f"{text}:{self.element.value}"


def format_shape(shape: tuple[int, ...]) -> str:
    """``28x28x256``; a scalar is ``1``."""
    return "x".join(str(extent) for extent in shape) or "1"
