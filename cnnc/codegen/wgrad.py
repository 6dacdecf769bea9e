"""Weight gradients: sums over pixels and images, split over programs and added up in a fixed order.

Both factors of the product are values of the kernel's body: they may be computed from what is stored as they are read.
"""

from __future__ import annotations

from cnnc.codegen.body import Body
from cnnc.codegen.context import Context
from cnnc.codegen.epilogue import short_name
from cnnc.codegen.kernel import Kernel, fixed
from cnnc.codegen.naming import label, words
from cnnc.codegen.place import Corner, Place
from cnnc.codegen.rows import Rows
from cnnc.codegen.rules import RULES
from cnnc.codegen.rules_conv import declare_window
from cnnc.codegen.splits import Share, store_shares
from cnnc.codegen.wgrad_pixels import sum_pixels
from cnnc.ir import ops
from cnnc.passes.shared_sums import wgrad_programs

# Filters are the tile's rows; its columns are channels of one tap, or run over taps and channels.
TAPS = """
pid = tl.program_id(0)
filter_tiles = (K + BM - 1) // BM
column_tiles = (C + BN - 1) // BN
first_filter = pid % filter_tiles * BM
first_c = pid // filter_tiles % column_tiles * BN
filter = first_filter + tl.arange(0, BM)
c = first_c + tl.arange(0, BN)
tap = pid // (filter_tiles * column_tiles) % (R * S)
group = pid // (filter_tiles * column_tiles * R * S)
filter_live = filter < K
column_live = c < C
column = tap * C + c
down = tap // S * DILATION_H - PAD_TOP
right = tap % S * DILATION_W - PAD_LEFT
dy_channel = group * K + filter
x_channel = group * C + c
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
down = tap // S * DILATION_H - PAD_TOP
right = tap % S * DILATION_W - PAD_LEFT
dy_channel = group * K + filter
x_channel = group * C + column % C
"""

LINEAR = """
pid = tl.program_id(0)
filter_tiles = (K + BM - 1) // BM
first_filter = pid % filter_tiles * BM
first_column = pid // filter_tiles * BN
filter = first_filter + tl.arange(0, BM)
column = first_column + tl.arange(0, BN)
filter_live = filter < K
column_live = column < C
"""

BEGIN = """
split = tl.program_id(1)
trips = ((ROWS + BK - 1) // BK + SPLITS - 1) // SPLITS
tl.assume(trips > 0)  # a loop that might not run would serialise the matrix instructions
acc = tl.full((BM, BN), 0.0, tl.float32)
"""

TAP = """
h = p * STRIDE_H + down
w = q * STRIDE_W + right
inside = live & (h >= 0) & (h < H) & (w >= 0) & (w < W)
x_mask = inside[:, None] & column_live[None, :]
"""

SPREAD = """
h = (p * STRIDE_H)[:, None] + down[None, :]
w = (q * STRIDE_W)[:, None] + right[None, :]
x_mask = live[:, None] & column_live[None, :] & (h >= 0) & (h < H) & (w >= 0) & (w < W)
"""


def emit_conv_wgrad(context: Context) -> None:
    """dw = sum over rows of dy (filters) times the x that each tap saw."""
    op = context.anchor
    assert isinstance(op, ops.ConvWgrad)
    gathers = context.gathers(context.main)
    how = "columns run over taps and channels" if gathers else "columns are channels of one tap"
    name = "conv_wgrad_gather" if gathers else "conv_wgrad"
    kernel, body = begin_wgrad(context, name, f"Gradient of a convolution's weight; {how}")
    dy, x = (body.types[number] for number in context.parts[context.main].operands)
    blocks = context.tile.descriptors
    rows = Rows((dy.shape[0], dy.shape[1]), pixelwise=blocks)
    rows.declare(kernel)
    kernel.counts(H=x.shape[0], W=x.shape[1])
    kernel.integers(K=dy.shape[2] // op.groups, C=x.shape[2] // op.groups)
    declare_window(kernel, op.window)
    kernel.write(GATHER if gathers else TAPS)
    first = "pid // filter_tiles % column_tiles == 0"
    first = first if gathers else f"({first}) & (tap == 0)"
    corner = Corner("first_image", "first_filter", "p * Q + q") if blocks else None
    left = _left(body, rows, "dy_channel", f"(K * {op.groups})", first, corner)
    right = Place(
        key=body.fresh(),
        rows=Rows((x.shape[0], x.shape[1]), "h", "w", "H", "W", pixelwise=blocks),
        live="live" if gathers else "inside",
        channel="x_channel",
        channel_live="column_live",
        mask="x_mask",
        channels=f"(C * {op.groups})",
        height="BK",
        width="BN",
        spread=gathers,
        corner=Corner("first_image", "first_c", "x_pixel") if blocks else None,
    )
    if blocks:
        sum_pixels(body, left, right)
    else:
        _sum_rows(body, rows, left, right, SPREAD if gathers else TAP)
    _store(body, "dy_channel", "(R * S * C)")


def emit_linear_wgrad(context: Context) -> None:
    """dw = dy^T x, summed over pixels and images."""
    kernel, body = begin_wgrad(context, "linear_wgrad", "Gradient of a linear layer's weight: dy transposed times x")
    dy, x = (body.types[number] for number in context.parts[context.main].operands)
    rows = Rows((dy.shape[0], dy.shape[1]) if len(dy.shape) == 3 else None)
    rows.declare(kernel)
    kernel.integers(K=dy.shape[-1], C=x.shape[-1])
    kernel.write(LINEAR)
    blocks = context.tile.descriptors
    corner = Corner("first_row", "first_filter") if blocks else None
    left = _left(body, rows, "filter", "K", "pid // filter_tiles == 0", corner)
    right = Place(
        key=body.fresh(),
        rows=rows,
        channel="column",
        channel_live="column_live",
        mask="x_mask",
        channels="C",
        height="BK",
        width="BN",
        stored_if="pid % filter_tiles == 0",
        corner=Corner("first_row", "first_column") if blocks else None,
    )
    _sum_rows(body, rows, left, right, "x_mask = live[:, None] & column_live[None, :]")
    _store(body, "filter", "C")


def begin_wgrad(context: Context, name: str, summary: str) -> tuple[Kernel, Body]:
    """The kernel and its body; what is computed on the way is named first."""
    prologue = context.parts[: context.main]
    if prologue:
        summary += f"; operands computed on the way: {words(prologue)}"
    kernel = Kernel(short_name([*(label(part.op) for part in prologue), name]), f"{summary}.")
    tile = context.tile
    kernel.counts(SPLITS=tile.splits)
    kernel.constant(BM=tile.m, BN=tile.n)
    return kernel, Body(context, kernel, RULES)


def _left(body: Body, rows: Rows, channel: str, channels: str, first: str, corner: Corner | None) -> Place:
    """The place of dy: rows down, filters across. ``first``: this program is the first of those that read it."""
    return Place(
        key=body.fresh(),
        rows=rows,
        channel=channel,
        channel_live="filter_live",
        mask="dy_mask",
        channels=channels,
        height="BK",
        width="BM",
        stored_if=first,
        corner=corner,
    )


def _sum_rows(body: Body, rows: Rows, left: Place, right: Place, step: str) -> None:
    """The loop over this split's rows; ``step`` says where x lies."""
    kernel, (dy, x) = body.kernel, body.part(body.context.main).operands
    kernel.constant(BK=body.context.tile.k)
    kernel.write(BEGIN.replace("ROWS", rows.total))
    with kernel.block("for trip in range(trips):"):
        kernel.write("first_row = (split * trips + trip) * BK\nrows = first_row + tl.arange(0, BK)")
        kernel.write("\n".join(rows.decode()))
        kernel.write("dy_mask = live[:, None] & filter_live[None, :]")
        a = body.factor(dy, left, "dy")
        kernel.write(step)
        b = body.factor(x, right, "x")
        kernel.write(f'acc = tl.dot(tl.trans({a}), {b}, acc, input_precision="ieee")')


def _store(body: Body, filters: str, width: str) -> None:
    """Store the sum, its rows ``filters`` of ``width`` elements each."""
    offsets = f"({filters}.to(tl.int64) * {width})[:, None] + column[None, :]"
    mask = "filter_live[:, None] & column_live[None, :]"
    end_wgrad(body, [Share("acc", offsets, mask, "(BM, BN)")])


def end_wgrad(body: Body, shares: list[Share]) -> None:
    """Store a program's sums and launch the kernel."""
    context = body.context
    out = context.outputs[context.results.index(body.number(context.main))]
    assert out is not None
    store_shares(context, body.kernel, out, shares)
    types = tuple(body.types[number] for number in context.parts[context.main].operands)
    programs = wgrad_programs(context.anchor, types, context.tile)
    context.add(body.kernel, (fixed(programs), fixed(context.tile.splits)))
