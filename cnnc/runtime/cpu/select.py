"""Elements where a condition holds, and zeros elsewhere: exact, also beside infinities and NaN."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnc.runtime.arrays import Array
from cnnc.runtime.cpu.operand import Scratch

INTEGERS: dict[int, np.dtype[Any]] = {4: np.dtype(np.int32), 8: np.dtype(np.int64)}


class Selector:
    """Scratch memory for selecting among up to ``count`` elements of a float dtype.

    numpy's masked loops run element by element; masking the bits keeps the loops over whole rows.
    """

    def __init__(self, count: int, dtype: np.dtype[np.generic], scratch: Scratch) -> None:
        self._integer = INTEGERS[dtype.itemsize]
        self._flags = scratch.array((count,), np.bool_)
        self._bits = scratch.array((count,), self._integer)

    def flags(self, shape: tuple[int, ...]) -> Array:
        """Where to put the condition."""
        size = int(np.prod(shape))
        return self._flags[:size].reshape(shape)

    def select(self, source: Array, flags: Array, out: Array) -> None:
        """``out = source where flags else 0``; ``flags`` come from this selector, ``out`` may be ``source``."""
        bits = self._bits[: flags.size].reshape(flags.shape)
        signed = flags.view(np.int8)
        np.negative(signed, out=signed)  # True becomes -1: all bits set, at any width
        np.copyto(bits, signed)
        np.bitwise_and(source.view(self._integer), bits, out=out.view(self._integer))
