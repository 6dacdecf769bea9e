"""Which kernels can compute an element-wise value where they would read it, and which of them can store it there."""

from __future__ import annotations

from cnnc.ir import ops
from cnnc.ir.graph import Node
from cnnc.ir.types import TensorType
from cnnc.passes.epilogues import TILE_PARTS
from cnnc.passes.nests import ROW_SUMS, WGRADS, tile_shape

# One element of the result takes one element of each image, and one of each vector of channels or array of positions.
ELEMENTWISE = (*TILE_PARTS, ops.BatchNormInputGrad)
TILEWISE = (*ELEMENTWISE, *tuple(ROW_SUMS))
POOLS = (ops.MaxPool, ops.AvgPool, ops.SumPool, ops.GlobalAvgPool)
LINEARS = (ops.Linear, ops.LinearDgrad)
# Columns up to which a convolution may compute its image again for each tap: its matrix work is as small.
NARROW = 32

Types = tuple[TensorType, ...]


def is_elementwise(node: Node) -> bool:
    """Whether a node's one result can be computed element by element, anywhere."""
    parts = node.op.parts if isinstance(node.op, ops.Fused) else (node,)
    return len(node.types) == 1 and node.types[0].batched and all(isinstance(part.op, ELEMENTWISE) for part in parts)


def reason_against(op: ops.Fused, types: Types, number: int) -> str | None:
    """Why a kernel can't compute operand ``number`` of its body on the way; None if it can.

    Wide convolutions of several taps don't: they would compute it once for each tap, in their loop.
    """
    values = op.value_types(types)
    for part in op.parts:
        for slot, operand in enumerate(part.operands):
            if operand == number:
                reason = _against(part.op, slot, tuple(values[i] for i in part.operands))
                if reason is not None:
                    return reason
    return None


def _against(op: ops.Op, slot: int, operands: Types) -> str | None:
    if isinstance(op, (*TILEWISE, ops.LinearWgrad)):
        return None
    if isinstance(op, (*LINEARS, *POOLS)) and slot == 0:
        return None
    if isinstance(op, ops.Conv | ops.ConvDgrad | ops.ConvWgrad):
        return _against_conv(op, slot, operands)
    return f"{op.name} reads it from memory"


def _against_conv(op: ops.Conv | ops.ConvDgrad | ops.ConvWgrad, slot: int, operands: Types) -> str | None:
    depthwise = ops.is_depthwise(op, operands[1].shape)
    if depthwise:
        return "depthwise gradients read it from memory" if isinstance(op, ops.ConvDgrad) else None
    if isinstance(op, ops.ConvWgrad) and slot == 0:
        return None
    if op.window.taps > 1 and _columns(op, operands) > NARROW:
        return f"{op.name} would compute it for each of {op.window.taps} taps"
    return None


def _columns(op: ops.Conv | ops.ConvDgrad | ops.ConvWgrad, operands: Types) -> int:
    """For how many channels a convolution uses an element of its image in one tap."""
    first, second = operands
    if isinstance(op, ops.ConvWgrad):
        return first.shape[2] // op.groups
    return second.shape[3] if isinstance(op, ops.ConvDgrad) else second.shape[0] // op.groups


def reason_against_storing(op: ops.Fused, types: Types, number: int) -> str | None:
    """Why a kernel that computes operand ``number`` on the way can't also store it; None if it can.

    It can where its programs come by each element once: in a product over single pixels, in a weight's gradient
    at the pixels of dy, or at the tile that it stores anyway.
    """
    main = op.parts[op.main]
    if isinstance(main.op, (*LINEARS, *WGRADS)) and main.operands[0] == number:
        return None
    if isinstance(main.op, ops.LinearWgrad) and main.operands[1] == number:
        return None
    inside = factor_values(op, types)
    at_tile = any(
        number in part.operands and first not in inside and isinstance(part.op, TILEWISE)
        for part, first in zip(op.parts, first_numbers(op, types), strict=True)
    )
    if at_tile and op.value_types(types)[number].shape == tile_shape(op, types):
        return None
    return f"{main.op.name} does not come by each element once"


def factor_values(op: ops.Fused, types: Types) -> frozenset[int]:
    """The images that the main part multiplies or pools, and what they are made from: none of them a tile of it."""
    main = op.parts[op.main]
    if isinstance(main.op, TILEWISE):
        return frozenset()
    firsts = first_numbers(op, types)
    read = set(main.operands[:2] if isinstance(main.op, WGRADS) else main.operands[:1])
    for part, first in reversed(list(zip(op.parts[: op.main], firsts, strict=False))):
        if first in read:
            read.update(part.operands)
    return frozenset(read)


def first_numbers(op: ops.Fused, types: Types) -> list[int]:
    """The number of each part's first result."""
    values = op.value_types(types)
    found = [len(types)]
    for part in op.parts:
        found.append(found[-1] + len(part.op.infer(*(values[i] for i in part.operands))))
    return found[:-1]
