"""Softmax and cross-entropy: kernels that need a whole row of channels at once, in blocks of any number."""

from __future__ import annotations

from cnnc.codegen.context import Context
from cnnc.codegen.kernel import Kernel
from cnnc.codegen.launch import Programs
from cnnc.codegen.rows import Rows, declare_strides, operand, rows_of
from cnnc.ir import ops
from cnnc.ir.size import Size

ROWS = "rows = tl.program_id(0) * BM + tl.arange(0, BM)"
SUM_BLOCK = 1024

# Milakov and Gimelshein 2018: the largest element and the sum of exponentials in one pass.
SCAN = """
largest = tl.full((BM,), float("-inf"), tl.float32)
total = tl.full((BM,), 0.0, tl.float32)
for block in range((C + BN - 1) // BN):
    channel = block * BN + tl.arange(0, BN)
    tile_live = live[:, None] & (channel < C)[None, :]
    value = tl.load(x + x_row[:, None] + channel[None, :], mask=tile_live, other=0.0).to(tl.float32)
    block_largest = tl.max(tl.where((channel < C)[None, :], value, float("-inf")), axis=1)
    above = tl.maximum(largest, block_largest)
    exponentials = tl.where((channel < C)[None, :], tl.exp(value - above[:, None]), 0.0)
    total = total * tl.exp(largest - above) + tl.sum(exponentials, axis=1)
    largest = above
"""

SOFTMAX = """
for block in range((C + BN - 1) // BN):
    channel = block * BN + tl.arange(0, BN)
    tile_live = live[:, None] & (channel < C)[None, :]
    value = tl.load(x + x_row[:, None] + channel[None, :], mask=tile_live, other=0.0).to(tl.float32)
    y = tl.exp(value - largest[:, None]) / total[:, None]
    tl.store(out + out_row[:, None] + channel[None, :], y.to(out.dtype.element_ty), mask=tile_live)
"""

SOFTMAX_GRAD = """
inner = tl.full((BM,), 0.0, tl.float32)
for block in range((C + BN - 1) // BN):
    channel = block * BN + tl.arange(0, BN)
    tile_live = live[:, None] & (channel < C)[None, :]
    dy_tile = tl.load(dy + dy_row[:, None] + channel[None, :], mask=tile_live, other=0.0).to(tl.float32)
    y_tile = tl.load(y + y_row[:, None] + channel[None, :], mask=tile_live, other=0.0).to(tl.float32)
    inner += tl.sum(dy_tile * y_tile, axis=1)
for block in range((C + BN - 1) // BN):
    channel = block * BN + tl.arange(0, BN)
    tile_live = live[:, None] & (channel < C)[None, :]
    dy_tile = tl.load(dy + dy_row[:, None] + channel[None, :], mask=tile_live, other=0.0).to(tl.float32)
    y_tile = tl.load(y + y_row[:, None] + channel[None, :], mask=tile_live, other=0.0).to(tl.float32)
    dx = y_tile * (dy_tile - inner[:, None])
    tl.store(out + out_row[:, None] + channel[None, :], dx.to(out.dtype.element_ty), mask=tile_live)
"""

LOSS = """
truth = tl.load(label + n.to(tl.int64) * label_n, mask=live, other=0)
truth_value = tl.load(x + x_row + truth, mask=live, other=0.0).to(tl.float32)
"""

LOSS_GRAD = """
weight = loss_scale / (N * 1.0)
for block in range((C + BN - 1) // BN):
    channel = block * BN + tl.arange(0, BN)
    tile_live = live[:, None] & (channel < C)[None, :]
    value = tl.load(x + x_row[:, None] + channel[None, :], mask=tile_live, other=0.0).to(tl.float32)
    probability = tl.exp(value - largest[:, None]) / total[:, None]
    target = tl.where(channel[None, :] == truth[:, None], 1.0, 0.0)
    dx = (probability - target) * weight
    tl.store(dlogits + dlogits_row[:, None] + channel[None, :], dx.to(dlogits.dtype.element_ty), mask=tile_live)
"""


def _begin(context: Context, kernel: Kernel, rows: Rows, channels: int, operands: tuple[str, ...]) -> None:
    rows.declare(kernel)
    kernel.integers(C=channels)
    kernel.constant(BM=context.tile.m, BN=context.tile.n)
    kernel.write("\n".join([ROWS, *rows.decode(), *(f"{name}_row = {rows.offsets(name)}" for name in operands)]))


def emit_softmax(context: Context) -> None:
    """Softmax over the last axis."""
    assert isinstance(context.anchor, ops.Softmax)
    (x,) = context.operands
    (out,) = context.outputs
    assert out is not None
    kernel = Kernel("softmax", "Softmax over the channels: one pass for maximum and sum, one for the result.")
    rows = rows_of(x)
    operand(kernel, "x", x)
    operand(kernel, "out", out)
    _begin(context, kernel, rows, x.shape[-1], ("x", "out"))
    kernel.write(SCAN)
    kernel.write(SOFTMAX)
    context.add(kernel, rows.programs(context.tile.m, 1))


def emit_softmax_grad(context: Context) -> None:
    """dx = y * (dy - sum(dy * y))."""
    assert isinstance(context.anchor, ops.SoftmaxGrad)
    dy, y = context.operands
    (out,) = context.outputs
    assert out is not None
    kernel = Kernel("softmax_grad", "Gradient of softmax from its output.")
    rows = rows_of(dy)
    for name, buffer in (("dy", dy), ("y", y), ("out", out)):
        operand(kernel, name, buffer)
    _begin(context, kernel, rows, dy.shape[-1], ("dy", "y", "out"))
    kernel.write(SOFTMAX_GRAD)
    context.add(kernel, rows.programs(context.tile.m, 1))


def emit_cross_entropy(context: Context) -> None:
    """Loss per image and the gradient of its mean, whichever is asked for."""
    assert isinstance(context.anchor, ops.CrossEntropy)
    x, label = context.operands
    loss, dlogits = context.outputs
    names = [name for name, buffer in (("loss", loss), ("grad", dlogits)) if buffer is not None]
    kernel = Kernel("_".join(["cross_entropy", *names]), "Cross-entropy of softmax, from the logits.")
    rows = rows_of(x)
    operand(kernel, "x", x)
    operand(kernel, "label", label)
    offsets = ["x"]
    for name, buffer in (("loss", loss), ("dlogits", dlogits)):
        if buffer is not None:
            operand(kernel, name, buffer)
    if dlogits is not None:
        offsets.append("dlogits")
        kernel.runtime("loss_scale")
    _begin(context, kernel, rows, x.shape[-1], tuple(offsets))
    kernel.write(SCAN)
    kernel.write(LOSS)
    if loss is not None:
        kernel.write("tl.store(loss + n.to(tl.int64) * loss_n, tl.log(total) - (truth_value - largest), mask=live)")
    if dlogits is not None:
        kernel.write(LOSS_GRAD)
    context.add(kernel, rows.programs(context.tile.m, 1))


def emit_batch_mean(context: Context) -> None:
    """The mean of one number per image: one program, in order."""
    assert isinstance(context.anchor, ops.BatchMean)
    (x,) = context.operands
    (out,) = context.outputs
    assert out is not None
    kernel = Kernel("batch_mean", "Mean over the batch of one number per image.")
    kernel.pointer("x", x)
    declare_strides(kernel, "x", x)
    kernel.pointer("out", out)
    kernel.batch()
    kernel.constant(BLOCK=SUM_BLOCK)
    kernel.write(
        """
        acc = tl.full((BLOCK,), 0.0, tl.float32)
        for block in range((N + BLOCK - 1) // BLOCK):
            n = block * BLOCK + tl.arange(0, BLOCK)
            acc += tl.load(x + n.to(tl.int64) * x_n, mask=n < N, other=0.0)
        tl.store(out, tl.sum(acc, axis=0) / (N * 1.0))
        """
    )
    context.add(kernel, (Programs(Size(c=1)),))
