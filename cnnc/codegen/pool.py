"""Pooling and its gradients. Rows are pixels of the result times images; sums are in float32.

Gradients gather: each pixel of dx asks every window that it may lie in, so that no two programs write
one element and the sums have a fixed order.
"""

from __future__ import annotations

from cnnc.codegen.context import Context
from cnnc.codegen.conv import declare_window
from cnnc.codegen.epilogue import chain_name, chain_text, finish
from cnnc.codegen.kernel import Kernel
from cnnc.codegen.pointwise import begin_tile, column_tiles
from cnnc.codegen.rows import Rows, operand
from cnnc.ir import ops
from cnnc.ir.window import Window

# Lines inside a loop over taps: the pixel (h, w) that a tap of output (p, q) reads, and the other way round.
WINDOW_TAP = """\
    h = p * STRIDE_H - PAD_TOP + tap // S * DILATION_H
    w = q * STRIDE_W - PAD_LEFT + tap % S * DILATION_W
    inside = live & (h >= 0) & (h < H) & (w >= 0) & (w < W)"""

GRAD_TAP = """\
    down = h + PAD_TOP - tap // S * DILATION_H
    right = w + PAD_LEFT - tap % S * DILATION_W
    p = down // STRIDE_H
    q = right // STRIDE_W
    inside = live & (down >= 0) & (right >= 0) & (p < P) & (q < Q)
    inside = inside & (down % STRIDE_H == 0) & (right % STRIDE_W == 0)"""

WINDOW_LOAD = f"""
for tap in range(R * S):
{WINDOW_TAP}
    x_row = h.to(tl.int64) * x_h + w.to(tl.int64) * x_w + n.to(tl.int64) * x_n
    x_at = x + x_row[:, None] + channel[None, :]
    value = tl.load(x_at, mask=inside[:, None] & channel_live[None, :], other=0.0).to(tl.float32)
"""

MAX = """
    # The first maximum wins, and the first NaN over everything.
    wins = (index < 0) | (value > best) | ((value != value) & (best == best))
    wins = wins & inside[:, None]
    best = tl.where(wins, value, best)
    index = tl.where(wins, tap, index)
"""

GRAD_LOAD = f"""
for tap in range(R * S):
{GRAD_TAP}
    mask = inside[:, None] & channel_live[None, :]
    dy_row = p.to(tl.int64) * dy_h + q.to(tl.int64) * dy_w + n.to(tl.int64) * dy_n
    dy_at = dy + dy_row[:, None] + channel[None, :]
    value = tl.load(dy_at, mask=mask, other=0.0).to(tl.float32)
"""

MAX_GRAD = """
    index_row = p.to(tl.int64) * index_h + q.to(tl.int64) * index_w + n.to(tl.int64) * index_n
    winner = tl.load(index + index_row[:, None] + channel[None, :], mask=mask, other=0).to(tl.int32)
    acc += tl.where(mask & (winner == tap), value, 0.0)
"""

# The mean's divisor: taps inside the image, or inside its declared padding where that is counted.
DIVISOR = """
down_count = window_count(p * STRIDE_H - PAD_TOP, LOW_H, H + HIGH_H, R, DILATION_H)
right_count = window_count(q * STRIDE_W - PAD_LEFT, LOW_W, W + HIGH_W, S, DILATION_W)
divisor = tl.maximum(down_count * right_count, 1).to(tl.float32)
"""


def indent(text: str) -> str:
    """Lines that stand in a loop."""
    return "\n".join(f"    {line}" for line in text.strip("\n").splitlines())


def _begin(context: Context, name: str, summary: str, window: Window, image: tuple[int, int]) -> tuple[Kernel, Rows]:
    """A kernel over the pooled pixels of an image."""
    kernel = Kernel(chain_name(context, name), summary + chain_text(context, 1))
    x = context.operands[0]
    rows = Rows(window.output(image))
    operand(kernel, "x", x)
    begin_tile(context, kernel, rows, x.shape[2])
    kernel.counts(H=image[0], W=image[1])
    declare_window(kernel, window)
    return kernel, rows


def _end(context: Context, kernel: Kernel, rows: Rows, computed: list[str], channels: int) -> None:
    finish(context, kernel, rows, computed)
    context.add(kernel, rows.programs(context.tile.m, column_tiles(context, channels)))


def emit_max_pool(context: Context) -> None:
    """Maximum of each window, and the tap where it was found if anyone asks."""
    op = context.anchor
    assert isinstance(op, ops.MaxPool)
    x = context.operands[0]
    kernel, rows = _begin(context, "max_pool", "Max pooling.", op.window, (x.shape[0], x.shape[1]))
    kernel.write('best = tl.full((BM, BN), float("-inf"), tl.float32)\nindex = tl.full((BM, BN), -1, tl.int32)')
    kernel.body.append(WINDOW_LOAD.strip("\n") + MAX.rstrip("\n"))
    _end(context, kernel, rows, ["best", "index"], x.shape[2])


def emit_sum_or_avg_pool(context: Context) -> None:
    """Sum or mean of each window."""
    op = context.anchor
    assert isinstance(op, ops.SumPool | ops.AvgPool)
    x = context.operands[0]
    averages = isinstance(op, ops.AvgPool)
    name, summary = ("avg_pool", "Average pooling.") if averages else ("sum_pool", "Sum pooling.")
    kernel, rows = _begin(context, name, summary, op.window, (x.shape[0], x.shape[1]))
    kernel.write("acc = tl.full((BM, BN), 0.0, tl.float32)")
    kernel.body.append(WINDOW_LOAD.strip("\n") + "\n    acc += value")
    if isinstance(op, ops.AvgPool):
        _declare_counted(kernel, op.window, op.count_pad)
        kernel.write(DIVISOR)
        kernel.write("average = acc / divisor[:, None]")
    _end(context, kernel, rows, ["average" if averages else "acc"], x.shape[2])


def _declare_counted(kernel: Kernel, window: Window, count_pad: bool) -> None:
    """How far beyond the image taps still count towards the mean's divisor."""
    top, bottom, left, right = window.pad if count_pad else (0, 0, 0, 0)
    kernel.constant(LOW_H=-top, HIGH_H=bottom, LOW_W=-left, HIGH_W=right)
    kernel.helpers.append("window_count")


def _begin_grad(context: Context, name: str, window: Window, image: tuple[int, int]) -> tuple[Kernel, Rows]:
    """A kernel over the pixels of a pool's input."""
    summary = f"Gradient of {name.replace('_', ' ').removesuffix(' grad')}ing: each pixel gathers from its windows."
    kernel = Kernel(chain_name(context, name), summary + chain_text(context, 1))
    dy = context.operands[0]
    rows = Rows(image, "h", "w", "H", "W")
    operand(kernel, "dy", dy)
    begin_tile(context, kernel, rows, dy.shape[2])
    kernel.counts(P=dy.shape[0], Q=dy.shape[1])
    declare_window(kernel, window)
    kernel.write("acc = tl.full((BM, BN), 0.0, tl.float32)")
    return kernel, rows


def emit_max_pool_grad(context: Context) -> None:
    """dx = the dy of every window whose maximum was this pixel."""
    op = context.anchor
    assert isinstance(op, ops.MaxPoolGrad)
    dy, index = context.operands
    kernel, rows = _begin_grad(context, "max_pool_grad", op.window, op.image)
    operand(kernel, "index", index)
    kernel.body.append(GRAD_LOAD.strip("\n") + MAX_GRAD.rstrip("\n"))
    _end(context, kernel, rows, ["acc"], dy.shape[2])


def emit_sum_or_avg_pool_grad(context: Context) -> None:
    """dx = the sum of dy, or of dy / divisor, over this pixel's windows."""
    op = context.anchor
    assert isinstance(op, ops.SumPoolGrad | ops.AvgPoolGrad)
    dy = context.operands[0]
    name = "avg_pool_grad" if isinstance(op, ops.AvgPoolGrad) else "sum_pool_grad"
    kernel, rows = _begin_grad(context, name, op.window, op.image)
    step = "\n    acc += value"
    if isinstance(op, ops.AvgPoolGrad):
        _declare_counted(kernel, op.window, op.count_pad)
        step = "\n" + indent(DIVISOR) + "\n    acc += value / divisor[:, None]"
    kernel.body.append(GRAD_LOAD.strip("\n") + step)
    _end(context, kernel, rows, ["acc"], dy.shape[2])


def emit_global_avg_pool(context: Context) -> None:
    """Mean over all pixels of each image: rows are images."""
    x = context.operands[0]
    kernel = Kernel(
        chain_name(context, "global_avg_pool"), "Mean over all pixels of each image." + chain_text(context, 1)
    )
    rows = Rows(None)
    operand(kernel, "x", x)
    begin_tile(context, kernel, rows, x.shape[2])
    kernel.counts(H=x.shape[0], W=x.shape[1])
    kernel.write(
        """
        acc = tl.full((BM, BN), 0.0, tl.float32)
        x_image = x + (n.to(tl.int64) * x_n)[:, None] + channel[None, :]
        for pixel in range(H * W):
            x_at = x_image + (pixel // W * x_h + pixel % W * x_w)
            acc += tl.load(x_at, mask=live[:, None] & channel_live[None, :], other=0.0).to(tl.float32)
        average = acc / (H * W * 1.0)
        """
    )
    _end(context, kernel, rows, ["average"], x.shape[2])


def emit_global_avg_pool_grad(context: Context) -> None:
    """dx = dy / pixels at every pixel."""
    op = context.anchor
    assert isinstance(op, ops.GlobalAvgPoolGrad)
    dy = context.operands[0]
    summary = "Gradient of the mean over all pixels: dy / pixels everywhere." + chain_text(context, 1)
    kernel = Kernel(chain_name(context, "global_avg_pool_grad"), summary)
    rows = Rows(op.image)
    operand(kernel, "dy", dy)
    begin_tile(context, kernel, rows, dy.shape[0])
    kernel.write(
        """
        dy_at = dy + (n.to(tl.int64) * dy_n)[:, None] + channel[None, :]
        dy_tile = tl.load(dy_at, mask=live[:, None] & channel_live[None, :], other=0.0).to(tl.float32)
        dx = dy_tile / (P * Q * 1.0)
        """
    )
    _end(context, kernel, rows, ["dx"], dy.shape[0])
