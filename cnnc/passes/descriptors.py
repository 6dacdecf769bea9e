"""Which products load their factors in blocks, through tensor descriptors.

On targets whose matrix units read shared memory, for layouts in which a block is a box: ``[H, W, N, C]`` images
and ``[N, C]`` vectors. Everything else goes through pointers.
"""

from __future__ import annotations

from collections.abc import Sequence

from cnnc.ir import ops
from cnnc.ir.plan import Buffer
from cnnc.ir.types import TensorType

TARGETS = ("sm_90", "sm_100")
DTYPES = ("bfloat16", "float16")
LEAST = 64  # images, channels and filters below which a block would be mostly empty
ALIGN_BYTES = 16  # of a descriptor's address and strides

WINDOWED = (ops.Conv, ops.ConvDgrad, ops.ConvWgrad)
WGRADS = (ops.ConvWgrad, ops.LinearWgrad)
PRODUCTS = (*WINDOWED, ops.Linear, ops.LinearDgrad, ops.LinearWgrad)
# Parts that look at other pixels or channels than their own, element by element.
SCATTERED = (ops.MaxPool, ops.AvgPool, ops.SumPool, ops.GlobalAvgPool, ops.Lrn)


def has_descriptors(target: str, dtype: str) -> bool:
    """Whether any kernel of a target takes descriptors in a compute dtype."""
    return target in TARGETS and dtype in DTYPES


def describable(buffer: Buffer) -> bool:
    """Whether descriptors can load blocks of a buffer: its axes, and its address and strides in bytes."""
    if buffer.axes not in ("HWNC", "NC", "0123", "01") or any(buffer.halo):
        return False
    row = max(buffer.channels, buffer.shape[-1]) * buffer.item_bytes
    start = buffer.offset + buffer.origin.scaled(buffer.item_bytes)
    return row % ALIGN_BYTES == 0 and start.multiple_of(ALIGN_BYTES)


def is_described(op: ops.Op, inputs: Sequence[Buffer], types: Sequence[TensorType], target: str, low: int) -> bool:
    """Whether a step's kernel loads its products' factors through descriptors.

    ``types`` are those of the step's operands, ``low`` the smallest batch that it is made for.
    """
    if target not in TARGETS or low < LEAST:
        return False
    single = (ops.Part("", op, tuple(range(len(types)))),)
    parts, main = (op.parts, op.main) if isinstance(op, ops.Fused) else (single, 0)
    values = op.value_types(tuple(types)) if isinstance(op, ops.Fused) else tuple(types)
    if not isinstance(parts[main].op, PRODUCTS) or any(isinstance(part.op, SCATTERED) for part in parts):
        return False
    return all(_fits(part, inputs, values) for part in parts if isinstance(part.op, PRODUCTS))


def _fits(part: ops.Part, inputs: Sequence[Buffer], values: Sequence[TensorType]) -> bool:
    """Whether one product has blocks worth loading, and lies so that they can be."""
    op = part.op
    if isinstance(op, WINDOWED):
        window = op.window
        apart = isinstance(op, ops.ConvDgrad) and window.stride != (1, 1) and window.dilation != (1, 1)
        if op.groups > 1 or apart or min(window.pad) < 0:
            return False
    first, second = (values[number].shape for number in part.operands)
    counts = (first[-1], second[-1]) if isinstance(op, WGRADS) else (second[0], second[-1])
    stored = [inputs[number] for number in part.operands if number < len(inputs)]
    weighs = isinstance(op, WGRADS) or part.operands[1] < len(inputs)
    lies = all(describable(buffer) and buffer.dtype in DTYPES for buffer in stored)
    return weighs and lies and min(counts) >= LEAST


def is_pixelwise(op: ops.Op) -> bool:
    """Whether a tile's rows are images at one pixel, because some product looks through a window."""
    parts = op.parts if isinstance(op, ops.Fused) else (ops.Part("", op, ()),)
    return any(isinstance(part.op, WINDOWED) for part in parts)
