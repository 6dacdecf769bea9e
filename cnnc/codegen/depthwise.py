"""Gradients of the weights of convolutions whose input channels each have filters of their own: tap by tap.

Rows are pixels times images, columns channels of the result, as in a pool. Filter ``channel`` reads input
channel ``channel // MULTIPLIER``; KRSC weights of one channel per group are ``[filter, tap]``.
"""

from __future__ import annotations

from cnnc.codegen.body import Body
from cnnc.codegen.context import Context
from cnnc.codegen.place import Place
from cnnc.codegen.rows import Rows
from cnnc.codegen.rules_conv import declare_window
from cnnc.codegen.splits import Share
from cnnc.codegen.wgrad import begin_wgrad, end_wgrad
from cnnc.ir import ops

# The pixel (h, w) that a tap of output (p, q) reads.
WINDOW_TAP = """\
h = p * STRIDE_H - PAD_TOP + tap // S * DILATION_H
w = q * STRIDE_W - PAD_LEFT + tap % S * DILATION_W
inside = live & (h >= 0) & (h < H) & (w >= 0) & (w < W)"""

WGRAD_BEGIN = """
pid = tl.program_id(0)
filter_tiles = (K + BN - 1) // BN
channel = pid % filter_tiles * BN + tl.arange(0, BN)
channel_live = channel < K
source = SOURCE
first = pid // filter_tiles * TAPS
split = tl.program_id(1)
trips = ((ROWS + BM - 1) // BM + SPLITS - 1) // SPLITS
"""


def _source(multiplier: int) -> str:
    """The input channel of a filter, as text; without a division that would hide that addresses are contiguous."""
    return "channel" if multiplier == 1 else "channel // MULTIPLIER"


def emit_depthwise_wgrad(context: Context) -> None:
    """dw = the sum over rows of dy times the x that each tap saw; a program keeps a few taps, one tile each."""
    op = context.anchor
    assert isinstance(op, ops.ConvWgrad)
    tile = context.tile
    kernel, body = begin_wgrad(context, "depthwise_wgrad", "Gradient of a depthwise convolution's weight")
    dy, x = (body.types[number] for number in context.parts[context.main].operands)
    filters = dy.shape[2]
    rows = Rows((dy.shape[0], dy.shape[1]))
    rows.declare(kernel)
    kernel.counts(H=x.shape[0], W=x.shape[1])
    kernel.integers(K=filters)
    declare_window(kernel, op.window)
    multiplier = filters // op.groups
    kernel.constant(MULTIPLIER=multiplier, TAPS=tile.k)
    kernel.write(WGRAD_BEGIN.replace("ROWS", rows.total).replace("SOURCE", _source(multiplier)))
    for tap in range(tile.k):
        kernel.write(f"acc{tap} = tl.full((BM, BN), 0.0, tl.float32)")
    with kernel.block("for trip in range(trips):"):
        kernel.write("rows = (split * trips + trip) * BM + tl.arange(0, BM)")
        kernel.write("\n".join(rows.decode()))
        _wgrad_step(body, rows, (x.shape[0], x.shape[1]))
    shares = []
    for tap in range(tile.k):
        kernel.write(f"sum{tap} = tl.sum(acc{tap}, axis=0)")
        mask = f"channel_live & (first + {tap} < R * S)"
        shares.append(Share(f"sum{tap}", f"channel.to(tl.int64) * (R * S) + first + {tap}", mask, "(BN,)"))
    end_wgrad(body, shares)


def _wgrad_step(body: Body, rows: Rows, image: tuple[int, int]) -> None:
    """A tile of rows: dy once, and for each of the program's taps, written out, the x that it saw."""
    kernel, context = body.kernel, body.context
    dy, x = context.parts[context.main].operands
    kernel.write("dy_mask = live[:, None] & channel_live[None, :]")
    left = Place(body.fresh(), rows, mask="dy_mask", channels="K", stored_if="first == 0")
    kernel.write(f"dy_tile = {body.masked(dy, left, 'dy')}")
    for place in range(context.tile.k):
        # A tap beyond the last is summed like any other, and not stored.
        kernel.write(f"tap = first + {place}\n{WINDOW_TAP}\nx_mask = inside[:, None] & channel_live[None, :]")
        seen = Rows(image, "h", "w", "H", "W")
        right = Place(body.fresh(), seen, "inside", "source", mask="x_mask", channels="(K // MULTIPLIER)")
        kernel.write(f"acc{place} += dy_tile * {body.masked(x, right)}")
