"""Gradients of pools. Rows are pixels of the result times images; sums are in float32.

They gather: each pixel of dx asks every window that it may lie in, so that no two programs write
one element and the sums have a fixed order.
"""

from __future__ import annotations

from cnnc.codegen.context import Context
from cnnc.codegen.epilogue import chain_name, chain_text, finish
from cnnc.codegen.kernel import Kernel
from cnnc.codegen.pointwise import begin_tile, column_tiles
from cnnc.codegen.rows import Rows, operand
from cnnc.codegen.rules_conv import declare_window
from cnnc.codegen.rules_window import DIVISOR, declare_counted
from cnnc.ir import ops
from cnnc.ir.window import Window

# Lines inside a loop over taps: the output (p, q) whose tap reads pixel (h, w).
GRAD_TAP = """\
    down = h + PAD_TOP - tap // S * DILATION_H
    right = w + PAD_LEFT - tap % S * DILATION_W
    p = down // STRIDE_H
    q = right // STRIDE_W
    inside = live & (down >= 0) & (right >= 0) & (p < P) & (q < Q)
    inside = inside & (down % STRIDE_H == 0) & (right % STRIDE_W == 0)"""

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


def indent(text: str) -> str:
    """Lines that stand in a loop."""
    return "\n".join(f"    {line}" for line in text.strip("\n").splitlines())


def _end(context: Context, kernel: Kernel, rows: Rows, computed: list[str], channels: int) -> None:
    finish(context, kernel, rows, computed)
    context.add(kernel, rows.programs(context.tile.m, column_tiles(context, channels)))


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
        declare_counted(kernel, op.window, op.count_pad)
        step = "\n" + indent(DIVISOR) + "\n    acc += value / divisor[:, None]"
    kernel.body.append(GRAD_LOAD.strip("\n") + step)
    _end(context, kernel, rows, ["acc"], dy.shape[2])


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
