"""Memory in which programs that share a sum over rows leave their parts, and how many programs that are."""

from __future__ import annotations

from cnnc.ir import ops
from cnnc.ir.plan import ALIGN_BYTES, Tile
from cnnc.ir.size import Size
from cnnc.ir.types import TensorType
from cnnc.passes.nests import WGRADS, anchor_of, gathers, phases, product_of, sum_channels, sums_of

Types = tuple[TensorType, ...]


def workspace_bytes(op: ops.Op, operands: Types, results: Types, tile: Tile | None) -> Size:
    """Bytes of partial results of programs that share a sum, or the losses of an image's positions."""
    sums = sums_of(op)
    channels = sum_channels(op, operands)
    averaged = _is_averaged(op)
    anchor, operands, results = anchor_of(op, operands, results)
    if tile is not None and isinstance(anchor, ops.CrossEntropy) and (averaged or operands[1].count > 1):
        return Size(a=-(-4 * operands[1].count // ALIGN_BYTES) * ALIGN_BYTES)
    if tile is None:
        return Size()
    count = 0
    if isinstance(anchor, WGRADS) and tile.splits > 1:
        count = tile.splits * results[0].count
    if sums:
        count = sharing(op, operands, results, tile) * sums * channels
    return Size(c=-(-4 * count // ALIGN_BYTES) * ALIGN_BYTES)


def counter_count(op: ops.Op, operands: Types, results: Types, tile: Tile) -> int:
    """How many counters a step needs: one for each block of channels, or of a weight, that programs sum together."""
    if _is_averaged(op):
        return 1
    channels = sum_channels(op, operands)
    sums = sums_of(op)
    anchor, operands, results = anchor_of(op, operands, results)
    if isinstance(anchor, WGRADS):
        return wgrad_programs(anchor, operands, tile) if tile.splits > 1 else 0
    if not sums:
        return 0
    if sharing(op, operands, results, tile) == 0:
        return 0
    groups = anchor.groups if isinstance(anchor, ops.Conv | ops.ConvDgrad) else 1
    return groups * -(-channels // groups // tile.n)


def _is_averaged(op: ops.Op) -> bool:
    """Whether a kernel of losses also gives their mean over the batch."""
    return isinstance(op, ops.Fused) and any(isinstance(part.op, ops.BatchMean) for part in op.parts)


def wgrad_programs(op: ops.Op, operands: Types, tile: Tile) -> int:
    """Tiles of a weight's gradient: the programs of one split of its rows. Operands are the anchor's."""
    if isinstance(op, ops.ConvWgrad) and ops.is_depthwise(op, operands[1].shape):
        return -(-operands[0].shape[2] // tile.n) * -(-op.window.taps // tile.k)
    product = product_of(op, operands, op.infer(*operands), 1)
    taps = 1 if gathers(op, product, tile) else product.columns // product.unit
    columns = taps * -(-product.columns // taps // tile.n)
    groups = op.groups if isinstance(op, ops.ConvWgrad) else 1
    return groups * -(-product.rows // tile.m) * columns


def sharing(op: ops.Op, operands: Types, results: Types, tile: Tile) -> int:
    """How many programs share each sum over rows; 0 if one has it alone. Operands are the anchor's."""
    anchor = op.anchor if isinstance(op, ops.Fused) else op
    programs = tile.splits
    if isinstance(anchor, ops.ConvDgrad) and not ops.is_depthwise(anchor, operands[1].shape):
        product = product_of(anchor, operands, results, 1)
        programs *= 1 if tile.descriptors or gathers(anchor, product, tile) else phases(anchor)
    return programs if programs > 1 else 0
