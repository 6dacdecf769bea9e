"""What the binders of ops work on: operands with their borders, and scratch memory.

A binder ``bind(op, operands, results, scratch)`` does all that depends on shapes and addresses once and
returns what remains to be done at each run. ``results`` holds None where nobody reads an output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cnnc.ir.plan import ALIGN_BYTES
from cnnc.ir.window import Pad
from cnnc.runtime.arrays import Array
from cnnc.runtime.memory import Block, allocate
from cnnc.runtime.scalars import Scalars

Run = Callable[[Scalars], None]
Results = Sequence["Array | None"]
NO_HALO: Pad = (0, 0, 0, 0)
GROWTH = 2


@dataclass(frozen=True)
class Operand:
    """An array to read: ``[N, H, W, C]``, ``[N, C]``, ``[N]`` or as a parameter is stored.

    ``padded`` is the same image with the zero border ``halo`` (top, bottom, left, right) around it.
    """

    array: Array
    padded: Array
    halo: Pad = NO_HALO

    def bordered(self, border: Pad) -> Array | None:
        """The image with this much zero border, or None if it keeps less."""
        if any(kept < needed for kept, needed in zip(self.halo, border, strict=True)):
            return None
        top, bottom, left, right = (kept - needed for kept, needed in zip(self.halo, border, strict=True))
        height, width = self.padded.shape[1:3]
        return self.padded[:, top : height - bottom, left : width - right]


def operand(array: Array) -> Operand:
    """An operand without a border."""
    return Operand(array, array)


class Scratch:
    """Memory for what lives no longer than one step; all steps share it, since they run one by one.

    ``needed`` says how many bytes have been in use at most; who knows it beforehand gives it as ``nbytes``.
    """

    def __init__(self, nbytes: int = 0) -> None:
        self.needed = nbytes
        self._block: Block = allocate(nbytes)
        self._used = 0

    @property
    def nbytes(self) -> int:
        return len(self._block)

    def begin(self) -> None:
        """Start a step: everything handed out before may be overwritten by it."""
        self._used = 0

    def array(self, shape: Sequence[int], dtype: npt.DTypeLike) -> Array:
        """An uninitialised array that no other of this step overlaps."""
        kind = np.dtype(dtype)
        begin = self._used
        size = -(-math.prod(shape) * kind.itemsize // ALIGN_BYTES) * ALIGN_BYTES
        self._used += size
        self.needed = max(self.needed, self._used)
        array: Array = np.ndarray(tuple(shape), kind, *self._memory(begin, size))
        return array

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Arrays made inside may be overwritten by what is made after: for parts of a step that run in turn."""
        used = self._used
        yield
        self._used = used

    def _memory(self, begin: int, size: int) -> tuple[Block, int]:
        """A block, and the place in it of the bytes from ``begin`` on."""
        if begin + size > len(self._block):
            # Arrays handed out before keep the old block alive; growing by a factor bounds their sum.
            self._block = allocate(max(begin + size, GROWTH * len(self._block)))
        return self._block, begin


class Measure(Scratch):
    """Scratch memory to bind steps to that never run: arrays may overlap, so that it stays small."""

    def _memory(self, begin: int, size: int) -> tuple[Block, int]:
        if size > len(self._block):
            self._block = allocate(size)
        return self._block, 0


def as_rows(array: Array) -> Array | None:
    """``[..., C]`` as a ``[rows, C]`` view, or None where its leading axes do not merge."""
    expected = None
    for extent, stride in zip(reversed(array.shape[:-1]), reversed(array.strides[:-1]), strict=True):
        if extent == 1:
            continue
        if expected is not None and stride != expected:
            return None
        expected = stride * extent
    return array.reshape(-1, array.shape[-1])


def blocks(shape: tuple[int, ...], itemsize: int, limit: int) -> list[tuple[slice, ...]]:
    """Slices over the images, and over rows of large ones, that cut an array into pieces of about ``limit`` bytes."""
    per_image = max(1, math.prod(shape[1:]) * itemsize)
    if per_image <= limit or len(shape) < 3:
        step = max(1, limit // per_image)
        return [(slice(n, min(n + step, shape[0])),) for n in range(0, shape[0], step)]
    per_row = max(1, math.prod(shape[2:]) * itemsize)
    step = max(1, limit // per_row)
    rows = [slice(h, min(h + step, shape[1])) for h in range(0, shape[1], step)]
    return [(slice(n, n + 1), row) for n in range(shape[0]) for row in rows]


def spread(array: Array) -> tuple[Array, int]:
    """An image as ``[..., W*C]`` where its last axes merge, and how often a channel vector repeats there.

    Loops over single pixels of few channels would cost more than the arithmetic.
    """
    if array.ndim == 4 and array.strides[3] == array.itemsize and array.strides[2] == array.shape[3] * array.itemsize:
        return array.reshape(*array.shape[:2], -1), array.shape[2]
    return array, 1


def lines(*arrays: Array) -> tuple[list[Array], int]:
    """Equal arrays as long lines if all of them merge, else as they are; and the repeat of channel vectors."""
    spreads = [spread(array) for array in arrays]
    if all(repeat > 1 for _, repeat in spreads):
        return [array for array, _ in spreads], spreads[0][1]
    return list(arrays), 1


def given(operands: Sequence[Operand]) -> list[Array]:
    """The operands' arrays, for ops that need no border."""
    return [one.array for one in operands]
