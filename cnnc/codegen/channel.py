"""Kernels that move or compare the channels of each pixel. Rows are pixels of the result times images."""

from __future__ import annotations

from cnnc.codegen.context import Context, logical_bytes
from cnnc.codegen.epilogue import chain_name, chain_text, finish
from cnnc.codegen.kernel import Kernel
from cnnc.codegen.pointwise import TILE, begin_tile, column_tiles
from cnnc.codegen.rows import operand, rows_of
from cnnc.ir import ops
from cnnc.ir.plan import Buffer, Tile
from cnnc.passes.nests import power_of_two

COPY = """
x_row = {x_row}
out_row = {out_row}
tile_live = live[:, None] & channel_live[None, :]
moved = tl.load(x + x_row[:, None] + {loaded}[None, :], mask=tile_live, other=0.0)
tl.store(out + out_row[:, None] + {stored}[None, :], moved, mask=tile_live)
"""

# Each channel of the result reads one of the operand: {source}.
GATHER = """
x_row = {x_row}
source = {source}
x_at = x + x_row[:, None] + source[None, :]
gathered = tl.load(x_at, mask=live[:, None] & channel_live[None, :], other=0.0).to(tl.float32)
"""

# The first maximum wins, and the first NaN over everything.
MAXIMUM = """
best = tl.full((BM, BN), float("-inf"), tl.float32)
index = tl.full((BM, BN), -1, tl.int32)
x_row = {x_row}
first = {first}
mask = live[:, None] & channel_live[None, :]
for piece in range(PIECES):
    value = tl.load(x + x_row[:, None] + (first + piece)[None, :], mask=mask, other=0.0).to(tl.float32)
    wins = (index < 0) | (value > best) | ((value != value) & (best == best))
    best = tl.where(wins, value, best)
    index = tl.where(wins, piece, index)
"""

MAXIMUM_GRAD = """
dy_row = {dy_row}
dy_at = dy + dy_row[:, None] + (channel // PIECES)[None, :]
dy_tile = tl.load(dy_at, mask=mask, other=0.0).to(tl.float32)
dx = tl.where(index == (channel % PIECES)[None, :], dy_tile, 0.0)
"""


def emit_concat(context: Context) -> None:
    """One copy per operand, all by one kernel: each goes to its slice of the result's channels."""
    (out,) = context.outputs
    assert out is not None
    start = 0
    for x in context.operands:
        kernel = Kernel("concat", "Copy an operand into its slice of the channels of a concatenation.")
        _copy(context, kernel, x, out, start, split=False)
        start += x.shape[-1]


def emit_split(context: Context) -> None:
    """One copy per result that is not read where it lies."""
    op = context.anchor
    assert isinstance(op, ops.Split)
    start = 0
    for count, out in zip(op.counts, context.outputs, strict=True):
        if out is not None:
            kernel = Kernel("split", "Copy a slice of the channels.")
            _copy(context, kernel, context.operands[0], out, start, split=True)
        start += count


def _copy(context: Context, kernel: Kernel, x: Buffer, out: Buffer, start: int, *, split: bool) -> None:
    """The channels that the smaller of both has, from START on in the larger: ``x`` where it is ``split``."""
    rows, small = rows_of(x), out if split else x
    channels = small.shape[-1]
    operand(kernel, "x", x)
    operand(kernel, "out", out)
    tile = _narrowed(context.tile, channels)
    rows.declare(kernel)
    kernel.integers(C=channels, START=start)
    kernel.constant(BM=tile.m, BN=tile.n)
    kernel.write(TILE)
    kernel.write("\n".join(rows.decode()))
    loaded, stored = ("(START + channel)", "channel") if split else ("channel", "(START + channel)")
    offsets = {"x_row": rows.offsets("x"), "out_row": rows.offsets("out")}
    kernel.write(COPY.format(**offsets, loaded=loaded, stored=stored))
    context.add(kernel, rows.programs(tile.m, -(-channels // tile.n)), logical_bytes(small).scaled(2))


def _narrowed(tile: Tile, channels: int) -> Tile:
    """As many elements, but no more columns than an operand has channels: the tile is made for the result."""
    n = min(tile.n, power_of_two(channels))
    return Tile(tile.m * tile.n // n, n, 1)


def emit_channel_slice(context: Context) -> None:
    """Channels from one on, as many as the result has."""
    op = context.anchor
    assert isinstance(op, ops.ChannelSlice)
    kernel = _begin(context, "channel_slice", "A slice of the channels.", op.count)
    kernel.integers(START=op.start)
    _gather(context, kernel, "START + channel", op.count)


def emit_channel_shuffle(context: Context) -> None:
    """Channel i of group g goes to i * groups + g."""
    op = context.anchor
    assert isinstance(op, ops.ChannelShuffle)
    channels = context.operands[0].shape[-1]
    kernel = _begin(context, "channel_shuffle", "Channels of all groups in turn.", channels)
    kernel.counts(GROUPS=op.groups)
    _gather(context, kernel, "channel % GROUPS * (C // GROUPS) + channel // GROUPS", channels)


def emit_maxout(context: Context) -> None:
    """Maximum of neighbouring channels."""
    op = context.anchor
    assert isinstance(op, ops.Maxout)
    channels = context.operands[0].shape[-1] // op.pieces
    kernel = _begin(context, "maxout", "Maximum of each so many neighbouring channels.", channels)
    kernel.counts(PIECES=op.pieces)
    rows = rows_of(context.operands[0])
    kernel.write(MAXIMUM.format(x_row=rows.offsets("x"), first="channel * PIECES"))
    _end(context, kernel, "best", channels)


def emit_maxout_grad(context: Context) -> None:
    """dy where a channel is the first maximum of its pieces, else 0."""
    op = context.anchor
    assert isinstance(op, ops.MaxoutGrad)
    dy, x = context.operands
    summary = "Gradient of maxout: dy goes to the first maximum."
    kernel = Kernel(chain_name(context, "maxout_grad"), summary + chain_text(context))
    rows, channels = rows_of(x), x.shape[-1]
    operand(kernel, "dy", dy)
    operand(kernel, "x", x)
    begin_tile(context, kernel, rows, channels)
    kernel.counts(PIECES=op.pieces)
    kernel.write(MAXIMUM.format(x_row=rows.offsets("x"), first="channel // PIECES * PIECES"))
    kernel.write(MAXIMUM_GRAD.format(dy_row=rows.offsets("dy")))
    _end(context, kernel, "dx", channels)


def _begin(context: Context, name: str, summary: str, channels: int) -> Kernel:
    """A kernel over the pixels of its only operand ``x`` and the ``channels`` of the result."""
    kernel = Kernel(chain_name(context, name), summary + chain_text(context))
    (x,) = context.operands
    operand(kernel, "x", x)
    begin_tile(context, kernel, rows_of(x), channels)
    return kernel


def _gather(context: Context, kernel: Kernel, source: str, channels: int) -> None:
    rows = rows_of(context.operands[0])
    kernel.write(GATHER.format(x_row=rows.offsets("x"), source=source))
    _end(context, kernel, "gathered", channels)


def _end(context: Context, kernel: Kernel, computed: str, channels: int) -> None:
    rows = rows_of(context.operands[0])
    finish(context, kernel, rows, [computed])
    context.add(kernel, rows.programs(context.tile.m, column_tiles(context, channels)))
