"""Tiles of fused products: smaller where what stands beside the accumulator needs registers of its own."""

from __future__ import annotations

from dataclasses import replace

from cnnc.ir import ops
from cnnc.ir.plan import Tile
from cnnc.ir.types import Element, TensorType
from cnnc.passes.nests import ALIGNED, MATRIX_OPS, POOLS, WGRADS, power_of_two

Types = tuple[TensorType, ...]


def with_room(tile: Tile, op: ops.Fused, operands: Types, aligned: bool) -> Tile:
    """A product's tile that leaves registers for what needs some of its own for every element: a window's maximum or
    sum, the tap where it was found, ten rounds of Philox, another product's factors."""
    values = op.value_types(operands)
    before = op.parts[: op.main]
    if any(_is_window(part, values) for part in before):
        # Every tap has loads of its own. Pipelined, they would take the shared memory of nine factors, and ptxas
        # serialises wgmma behind them (C7515); other programs hide their latency.
        factor = values[op.parts[op.main].operands[0]]
        vectors = aligned and factor.shape[-1] % ALIGNED == 0
        return replace(tile, m=64, k=min(32 if vectors else 16, tile.k), warps=8, stages=1)
    if any(isinstance(part.op, MATRIX_OPS) for part in before):
        tile = replace(tile, warps=8)
    heavy = any(isinstance(part.op, ops.Dropout) for part in op.parts)
    heavy |= any(values[number].element is Element.INDEX for number in op.results)
    if not heavy and not any(isinstance(part.op, POOLS) for part in op.parts):
        return tile
    return replace(tile, m=64 if heavy else tile.m, n=min(64, tile.n), warps=8)


def computes_factors(op: ops.Fused, operands: int) -> bool:
    """Whether an image that the main part multiplies is computed on the way."""
    part = op.parts[op.main]
    return max(part.operands[:2] if isinstance(part.op, WGRADS) else part.operands[:1]) >= operands


def with_factors(tile: Tile, target: str) -> Tile:
    """A tile whose factors are computed in registers: more threads share them; AMD's have fewer."""
    if target.startswith("gfx"):
        tile = replace(tile, m=min(64, tile.m), k=min(32, tile.k))
    return replace(tile, warps=8)


def _is_window(part: ops.Part, values: Types) -> bool:
    """Whether a part looks at neighbouring pixels, channel by channel."""
    return isinstance(part.op, POOLS) or (
        len(part.operands) > 1 and ops.is_depthwise(part.op, values[part.operands[1]].shape)
    )


def holds_pixels(op: ops.Op) -> bool:
    """Whether a kernel's tile must hold all channels of its pixels, for a part that looks at a channel's neighbours."""
    return isinstance(op, ops.Fused) and any(isinstance(part.op, ops.Lrn) for part in op.parts[op.main + 1 :])


def whole_pixels(tile: Tile, anchor: ops.Op, channels: int) -> Tile:
    n = max(16, power_of_two(channels))
    if isinstance(anchor, MATRIX_OPS):
        return replace(tile, m=64, n=n, k=min(32, tile.k), warps=8)
    return replace(tile, m=max(1, 2048 // n), n=n)


def narrower(tile: Tile | None, times: int) -> Tile | None:
    """A tile halved so often: in its rows down to 64, then its columns, then its step and the loads under way."""
    for _ in range(times if tile is not None else 0):
        assert tile is not None
        if tile.m > 64:
            tile = replace(tile, m=tile.m // 2)
        elif tile.n > 32:
            tile = replace(tile, n=tile.n // 2)
        elif tile.k > 16:
            tile = replace(tile, k=tile.k // 2)
        else:
            tile = replace(tile, m=max(16, tile.m // 2), stages=max(1, tile.stages - 1))
    return tile
