"""Weight gradients: sums over pixels and images, split over programs and added up in a fixed order."""

from __future__ import annotations

import math

from cnnc.codegen.context import Context
from cnnc.codegen.kernel import Kernel, fixed
from cnnc.codegen.rows import Rows, operand, rows_of
from cnnc.codegen.rules_conv import declare_window
from cnnc.ir import ops
from cnnc.ir.plan import Buffer
from cnnc.ir.size import Size

REDUCE_BLOCK = 1024
INTERPRET_REDUCE_BLOCK = 1 << 16

# Filters are the tile's rows; its columns are channels of one tap, or run over taps and channels.
TAPS = """
pid = tl.program_id(0)
filter_tiles = (K + BM - 1) // BM
column_tiles = (C + BN - 1) // BN
filter = pid % filter_tiles * BM + tl.arange(0, BM)
c = pid // filter_tiles % column_tiles * BN + tl.arange(0, BN)
tap = pid // (filter_tiles * column_tiles) % (R * S)
group = pid // (filter_tiles * column_tiles * R * S)
filter_live = filter < K
column_live = c < C
column = tap * C + c
down = tap // S * DILATION_H - PAD_TOP
right = tap % S * DILATION_W - PAD_LEFT
"""

GATHER = """
pid = tl.program_id(0)
filter_tiles = (K + BM - 1) // BM
column_tiles = (R * S * C + BN - 1) // BN
filter = pid % filter_tiles * BM + tl.arange(0, BM)
column = pid // filter_tiles % column_tiles * BN + tl.arange(0, BN)
group = pid // (filter_tiles * column_tiles)
filter_live = filter < K
column_live = column < R * S * C
tap = column // C
c = column % C
down = tap // S * DILATION_H - PAD_TOP
right = tap % S * DILATION_W - PAD_LEFT
"""

LINEAR = """
pid = tl.program_id(0)
filter_tiles = (K + BM - 1) // BM
filter = pid % filter_tiles * BM + tl.arange(0, BM)
column = pid // filter_tiles * BN + tl.arange(0, BN)
filter_live = filter < K
column_live = column < C
"""

LOOP_BEGIN = """
split = tl.program_id(1)
trips = ((ROWS + BK - 1) // BK + SPLITS - 1) // SPLITS
tl.assume(trips > 0)  # a loop that might not run would serialise the matrix instructions
acc = tl.full((BM, BN), 0.0, tl.float32)
for trip in range(trips):
    rows = (split * trips + trip) * BK + tl.arange(0, BK)
"""

# Indented: these lines stand inside the loop.
LOAD_TAP = """
    h = p * STRIDE_H + down
    w = q * STRIDE_W + right
    inside = live & (h >= 0) & (h < H) & (w >= 0) & (w < W)
    x_row = h.to(tl.int64) * x_h + w.to(tl.int64) * x_w + n.to(tl.int64) * x_n + group * C
    b = tl.load(x + x_row[:, None] + c[None, :], mask=inside[:, None] & column_live[None, :], other=0.0)
"""

LOAD_GATHER = """
    h = (p * STRIDE_H)[:, None] + down[None, :]
    w = (q * STRIDE_W)[:, None] + right[None, :]
    inside = live[:, None] & column_live[None, :] & (h >= 0) & (h < H) & (w >= 0) & (w < W)
    x_image = n.to(tl.int64) * x_n + group * C
    x_at = x + x_image[:, None] + h.to(tl.int64) * x_h + w.to(tl.int64) * x_w + c[None, :]
    b = tl.load(x_at, mask=inside, other=0.0)
"""

PRODUCT = """
    acc = tl.dot(tl.trans(a), b, acc, input_precision="ieee")
"""


def emit_conv_wgrad(context: Context) -> None:
    """dw = sum over rows of dy (filters) times the x that each tap saw."""
    op = context.anchor
    assert isinstance(op, ops.ConvWgrad)
    dy, x = context.operands
    tile, groups = context.tile, op.groups
    gathers = context.gathers(context.main)
    how = "columns run over taps and channels" if gathers else "columns are channels of one tap"
    kernel = Kernel("conv_wgrad_gather" if gathers else "conv_wgrad", f"Gradient of a convolution's weight; {how}.")
    rows = Rows((dy.shape[0], dy.shape[1]))
    operand(kernel, "dy", dy)
    operand(kernel, "x", x)
    out = sum_target(context, kernel)
    rows.declare(kernel)
    filters, channels = dy.shape[2] // groups, x.shape[2] // groups
    kernel.counts(H=x.shape[0], W=x.shape[1])
    kernel.integers(K=filters, C=channels)
    declare_window(kernel, op.window)
    kernel.write(GATHER if gathers else TAPS)
    _sum_rows(context, kernel, rows, "group * K + filter", LOAD_GATHER if gathers else LOAD_TAP)
    taps = op.window.taps
    _write_sum(context, kernel, out, "group * K + filter", "R * S * C", filters * groups)
    columns = -(-channels * taps // tile.n) if gathers else taps * -(-channels // tile.n)
    launch_sum(context, kernel, -(-filters // tile.m) * columns * groups)


def emit_linear_wgrad(context: Context) -> None:
    """dw = dy^T x, summed over pixels and images."""
    dy, x = context.operands
    tile = context.tile
    kernel = Kernel("linear_wgrad", "Gradient of a linear layer's weight: dy transposed times x.")
    rows = rows_of(dy)
    operand(kernel, "dy", dy)
    operand(kernel, "x", x)
    out = sum_target(context, kernel)
    rows.declare(kernel)
    filters, channels = dy.shape[-1], x.shape[-1]
    kernel.integers(K=filters, C=channels)
    kernel.write(LINEAR)
    load = (
        f"    x_row = {rows.offsets('x')}\n"
        "    x_at = x + x_row[:, None] + column[None, :]\n"
        "    b = tl.load(x_at, mask=live[:, None] & column_live[None, :], other=0.0)"
    )
    _sum_rows(context, kernel, rows, "filter", load)
    _write_sum(context, kernel, out, "filter", "C", filters)
    launch_sum(context, kernel, -(-filters // tile.m) * -(-channels // tile.n))


def sum_target(context: Context, kernel: Kernel) -> Buffer:
    """Where the sums go: the gradient itself, or the workspace if the sum is split."""
    out = context.outputs[0] if context.tile.splits == 1 else context.workspace
    assert out is not None
    kernel.pointer("out", out)
    return out


def _sum_rows(context: Context, kernel: Kernel, rows: Rows, dy_channel: str, load_x: str) -> None:
    """The loop over this split's rows."""
    tile = context.tile
    kernel.counts(SPLITS=tile.splits)
    kernel.constant(BM=tile.m, BN=tile.n, BK=tile.k)
    lines = [
        LOOP_BEGIN.strip("\n").replace("ROWS", rows.total),
        *(f"    {line}" for line in rows.decode()),
        f"    dy_row = {rows.offsets('dy')}",
        f"    dy_at = dy + dy_row[:, None] + ({dy_channel})[None, :]",
        "    a = tl.load(dy_at, mask=live[:, None] & filter_live[None, :], other=0.0)",
        load_x.strip("\n"),
        PRODUCT.strip("\n"),
    ]
    kernel.body.append("\n".join(lines))


def _write_sum(context: Context, kernel: Kernel, out: Buffer, filter_text: str, width: str, filters: int) -> None:
    place = f"out_row = ({filter_text}).to(tl.int64) * ({width})"
    if context.tile.splits > 1:
        kernel.integers(FILTERS=filters)
        place += f" + split.to(tl.int64) * FILTERS * ({width})"
    kernel.write(
        f"{place}\n"
        "out_at = out + out_row[:, None] + column[None, :]\n"
        "tl.store(out_at, acc.to(out.dtype.element_ty), mask=filter_live[:, None] & column_live[None, :])"
    )


def launch_sum(context: Context, kernel: Kernel, programs: int) -> None:
    """Launch the programs of each split, and what adds the splits up."""
    tile = context.tile
    grid = (fixed(programs), fixed(tile.splits))
    if tile.splits == 1:
        context.add(kernel, grid)
        return
    out = context.outputs[0]
    assert out is not None
    count = math.prod(out.shape)
    partial = Size(c=4 * tile.splits * count)
    context.add(kernel, grid, context.read() + partial)
    emit_reduce(context, context.workspace, out, count, partial)


def emit_reduce(context: Context, workspace: Buffer, out: Buffer, count: int, partial: Size) -> None:
    """Add up the splits of each element, always in the same order."""
    kernel = Kernel("reduce_splits", "Sum of partial results over the splits, in order.")
    kernel.pointer("partial", workspace)
    kernel.pointer("out", out)
    kernel.integers(COUNT=count)
    kernel.counts(SPLITS=context.tile.splits)
    kernel.constant(BLOCK=INTERPRET_REDUCE_BLOCK if context.interpreted else REDUCE_BLOCK)
    kernel.write(
        """
        at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        live = at < COUNT
        acc = tl.full((BLOCK,), 0.0, tl.float32)
        source = partial + at
        for split in range(SPLITS):
            acc += tl.load(source, mask=live, other=0.0)
            source += COUNT
        tl.store(out + at, acc.to(out.dtype.element_ty), mask=live)
        """
    )
    block = kernel.constants["BLOCK"]
    assert isinstance(block, int)
    context.add(kernel, (fixed(-(-count // block)),), partial + context.written(), Size(), warps=context.tile.warps)
