"""Gradients of convolutions whose input channels each have filters of their own: no matrix, so tap by tap.

Rows are pixels times images, columns channels of the result, as in a pool. Filter ``channel`` reads input
channel ``channel // MULTIPLIER``; KRSC weights of one channel per group are ``[filter, tap]``.
"""

from __future__ import annotations

from cnnc.codegen.context import Context
from cnnc.codegen.epilogue import chain_name, chain_text, finish
from cnnc.codegen.kernel import Kernel
from cnnc.codegen.pointwise import begin_tile, column_tiles
from cnnc.codegen.pool import GRAD_TAP, indent
from cnnc.codegen.rows import Rows, operand
from cnnc.codegen.rules_conv import declare_window
from cnnc.codegen.wgrad import launch_sum, sum_target
from cnnc.ir import ops

# The pixel (h, w) that a tap of output (p, q) reads.
WINDOW_TAP = """\
h = p * STRIDE_H - PAD_TOP + tap // S * DILATION_H
w = q * STRIDE_W - PAD_LEFT + tap % S * DILATION_W
inside = live & (h >= 0) & (h < H) & (w >= 0) & (w < W)"""

DGRAD = """
    dy_row = p.to(tl.int64) * dy_h + q.to(tl.int64) * dy_w + n.to(tl.int64) * dy_n
    for copy in range(MULTIPLIER):
        filter = channel * MULTIPLIER + copy
        dy_at = dy + dy_row[:, None] + filter[None, :]
        value = tl.load(dy_at, mask=inside[:, None] & channel_live[None, :], other=0.0).to(tl.float32)
        tap_weight = tl.load(weight + filter.to(tl.int64) * (R * S) + tap, mask=channel_live, other=0.0).to(tl.float32)
        acc += value * tap_weight[None, :]
"""

WGRAD_BEGIN = """
filter_tiles = (K + BN - 1) // BN
channel = tl.program_id(0) % filter_tiles * BN + tl.arange(0, BN)
channel_live = channel < K
first = tl.program_id(0) // filter_tiles * TAPS
split = tl.program_id(1)
trips = ((ROWS + BM - 1) // BM + SPLITS - 1) // SPLITS
"""

WGRAD_ROWS = """
dy_row = p.to(tl.int64) * dy_h + q.to(tl.int64) * dy_w + n.to(tl.int64) * dy_n
dy_at = dy + dy_row[:, None] + channel[None, :]
dy_tile = tl.load(dy_at, mask=live[:, None] & channel_live[None, :], other=0.0).to(tl.float32)
"""

WGRAD_TAP = """
x_row = h.to(tl.int64) * x_h + w.to(tl.int64) * x_w + n.to(tl.int64) * x_n
x_at = x + x_row[:, None] + (SOURCE)[None, :]
value = tl.load(x_at, mask=inside[:, None] & channel_live[None, :], other=0.0).to(tl.float32)
"""


def _source(multiplier: int) -> str:
    """The input channel of a filter, as text; without a division that would hide that addresses are contiguous."""
    return "channel" if multiplier == 1 else "channel // MULTIPLIER"


def emit_depthwise_dgrad(context: Context) -> None:
    """dx = the sum over taps, and over the filters of its channel, of dy times the weight."""
    op = context.anchor
    assert isinstance(op, ops.ConvDgrad)
    dy, w = context.operands
    summary = f"Gradient of a depthwise convolution with respect to its input.{chain_text(context, 1)}"
    kernel = Kernel(chain_name(context, "depthwise_dgrad"), summary)
    rows = Rows(op.image, "h", "w", "H", "W")
    operand(kernel, "dy", dy)
    kernel.pointer("weight", w)
    begin_tile(context, kernel, rows, op.groups)
    kernel.counts(P=dy.shape[0], Q=dy.shape[1])
    declare_window(kernel, op.window)
    kernel.constant(MULTIPLIER=w.shape[0] // op.groups)
    kernel.write("acc = tl.full((BM, BN), 0.0, tl.float32)")
    kernel.body.append("for tap in range(R * S):\n" + GRAD_TAP + DGRAD)
    _end(context, kernel, rows, op.groups)


def _end(context: Context, kernel: Kernel, rows: Rows, channels: int) -> None:
    finish(context, kernel, rows, ["acc"])
    context.add(kernel, rows.programs(context.tile.m, column_tiles(context, channels)))


def emit_depthwise_wgrad(context: Context) -> None:
    """dw = the sum over rows of dy times the x that each tap saw; a program keeps a few taps, one tile each."""
    op = context.anchor
    assert isinstance(op, ops.ConvWgrad)
    dy, x = context.operands
    filters, tile = dy.shape[2], context.tile
    kernel = Kernel("depthwise_wgrad", "Gradient of a depthwise convolution's weight.")
    rows = Rows((dy.shape[0], dy.shape[1]))
    operand(kernel, "dy", dy)
    operand(kernel, "x", x)
    sum_target(context, kernel)
    rows.declare(kernel)
    kernel.counts(H=x.shape[0], W=x.shape[1], SPLITS=tile.splits)
    kernel.integers(K=filters)
    declare_window(kernel, op.window)
    multiplier = filters // op.groups
    kernel.constant(MULTIPLIER=multiplier, BM=tile.m, BN=tile.n, TAPS=tile.k)
    kernel.write(WGRAD_BEGIN.replace("ROWS", rows.total))
    for place in range(tile.k):
        kernel.write(f"acc{place} = tl.full((BM, BN), 0.0, tl.float32)")
    kernel.body.append(_wgrad_loop(rows, tile.k, _source(multiplier)))
    for place in range(tile.k):
        kernel.write(
            f"at{place} = out + (split * K + channel).to(tl.int64) * (R * S) + first + {place}\n"
            f"sum{place} = tl.sum(acc{place}, axis=0).to(out.dtype.element_ty)\n"
            f"tl.store(at{place}, sum{place}, mask=channel_live & (first + {place} < R * S))"
        )
    launch_sum(context, kernel, -(-filters // tile.n) * -(-op.window.taps // tile.k))


def _wgrad_loop(rows: Rows, taps: int, source: str) -> str:
    """The loop over this split's rows, the program's taps written out."""
    body = ["rows = (split * trips + trip) * BM + tl.arange(0, BM)", *rows.decode(), WGRAD_ROWS.strip("\n")]
    for place in range(taps):
        # A tap beyond the last is summed like any other, and not stored.
        body += [f"tap = first + {place}", WINDOW_TAP]
        body += [WGRAD_TAP.replace("SOURCE", source).strip("\n"), f"acc{place} += dy_tile * value"]
    return "for trip in range(trips):\n" + indent("\n".join(body))
