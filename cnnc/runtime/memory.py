"""Host memory of a run: one block of bytes per space, and numpy views of buffers in it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cnnc.ir.plan import ALIGN_BYTES, Buffer, Space
from cnnc.ir.types import numpy_dtype

Block = np.ndarray[tuple[int], np.dtype[np.uint8]]
Key = Space | str  # a shared space, or "input:<name>" / "output:<name>" for the caller's arrays


def allocate(nbytes: int) -> Block:
    """Zeroed bytes whose first address is a multiple of ALIGN_BYTES."""
    raw = np.zeros(nbytes + ALIGN_BYTES, np.uint8)
    start = -raw.ctypes.data % ALIGN_BYTES
    return raw[start : start + nbytes]


def block_key(buffer: Buffer) -> Key:
    """Which block a buffer lies in: INPUT and OUTPUT buffers have one each, other spaces share one."""
    if buffer.space in (Space.INPUT, Space.OUTPUT):
        return f"{buffer.space.value}:{buffer.name}"
    return buffer.space


def view(buffer: Buffer, blocks: Mapping[Key, Block], n: int, *, halo: bool = False) -> np.ndarray:
    """The buffer as an array in logical axis order: ``[N, H, W, C]``, ``[N, C]``, ``[N]`` or as stored.

    With ``halo`` an image's height and width include its zero border. bfloat16 comes as uint16 bits.

    Raises:
        ValueError: the buffer does not lie inside its block.
    """
    dtype = numpy_dtype(buffer.dtype)
    shape = list(buffer.shape)
    origin = buffer.origin.at(n)
    if halo and len(shape) == 3 and buffer.batched:
        shape[0] += buffer.halo[0] + buffer.halo[1]
        shape[1] += buffer.halo[2] + buffer.halo[3]
        origin = buffer.first
    if buffer.batched:
        shape.insert(0, n)
    start = buffer.offset.at(n) + origin * dtype.itemsize
    strides = [stride.at(n) * dtype.itemsize for stride in buffer.strides]
    # This constructor checks that the array stays inside the block, which as_strided would not.
    array: np.ndarray = np.ndarray(shape, dtype, blocks[block_key(buffer)], start, strides)
    return array
