"""Cross-entropy per position, its mean over an image and over the batch; all sums in a fixed order."""

from __future__ import annotations

import math

from cnnc.codegen.context import Context, total
from cnnc.codegen.kernel import Kernel
from cnnc.codegen.launch import Programs
from cnnc.codegen.rows import Rows, operand, rows_of
from cnnc.codegen.rowwise import SCAN, begin_rows
from cnnc.codegen.splits import ARRIVE, RESET
from cnnc.ir import ops
from cnnc.ir.plan import Buffer
from cnnc.ir.size import Size

SUM_BLOCK = 1024

TRUTH = """
truth = tl.load(label + label_row, mask=live, other=0)
truth_value = tl.load(x + x_row + truth, mask=live, other=0.0).to(tl.float32)
"""

ROW_LOSS = "row_loss = tl.log(total) - (truth_value - largest)"

GRADIENT = """
factor = WEIGHT * loss_scale / ((ROWS) * 1.0)
for block in range((C + BN - 1) // BN):
    channel = block * BN + tl.arange(0, BN)
    tile_live = live[:, None] & (channel < C)[None, :]
    value = tl.load(x + x_row[:, None] + channel[None, :], mask=tile_live, other=0.0).to(tl.float32)
    probability = tl.exp(value - largest[:, None]) / total[:, None]
    target = tl.where(channel[None, :] == truth[:, None], 1.0, 0.0)
    dx = (probability - target) * factor
    tl.store(dlogits + dlogits_row[:, None] + channel[None, :], dx.to(dlogits.dtype.element_ty), mask=tile_live)
"""

MEAN = """
acc = tl.full((BLOCK,), 0.0, tl.float32)
for block in range((N + BLOCK - 1) // BLOCK):
    image = block * BLOCK + tl.arange(0, BLOCK)
    acc += tl.load(partial + image, mask=image < N, other=0.0)
tl.store(mean, tl.sum(acc, axis=0) / (N * 1.0))
"""

IMAGE_MEAN = """
n = tl.program_id(0).to(tl.int64)
acc = tl.full((BLOCK,), 0.0, tl.float32)
for block in range((POSITIONS + BLOCK - 1) // BLOCK):
    position = block * BLOCK + tl.arange(0, BLOCK)
    acc += tl.load(partial + n * POSITIONS + position, mask=position < POSITIONS, other=0.0)
tl.store(loss + n * loss_n, WEIGHT * (tl.sum(acc, axis=0) / (POSITIONS * 1.0)))
"""


def emit_cross_entropy(context: Context) -> None:
    """Loss per image, the batch's mean and its gradient, whichever is asked for.

    The losses of an image's positions go through the workspace, for a second kernel to add up.
    """
    assert isinstance(context.anchor, ops.CrossEntropy)
    x, label = context.operands
    found = dict(zip(context.results, context.outputs, strict=True))
    loss, dlogits, mean = (found.get(len(context.inputs) + number) for number in range(3))
    names = [name for name, buffer in (("loss", loss), ("mean", mean), ("grad", dlogits)) if buffer is not None]
    kernel = Kernel("_".join(["cross_entropy", *names]), "Cross-entropy of softmax, from the logits.")
    rows = rows_of(x)
    operand(kernel, "x", x)
    operand(kernel, "label", label)
    offsets = ["x", "label"]
    if dlogits is not None:
        operand(kernel, "dlogits", dlogits)
        offsets.append("dlogits")
        kernel.runtime("loss_scale")
    positions = math.prod(label.shape)
    if dlogits is not None or positions == 1:
        kernel.constant(WEIGHT=context.anchor.weight)
    if loss is not None and positions > 1:
        kernel.pointer("partial", context.workspace)
    elif loss is not None:
        operand(kernel, "loss", loss)
    begin_rows(context, kernel, rows, x.shape[-1], tuple(offsets))
    kernel.write(SCAN)
    kernel.write(TRUTH)
    if loss is not None or mean is not None:
        kernel.write(ROW_LOSS)
    if loss is not None:
        kernel.write(_store(rows, positions))
    if dlogits is not None:
        kernel.write(GRADIENT.replace("ROWS", rows.total))
    if mean is not None:
        _batch_mean(context, kernel, mean)
    grid = rows.programs(context.tile.m, 1)
    if loss is None or positions == 1:
        context.add(kernel, grid)
        return
    written = Size() if dlogits is None else total([dlogits])
    context.add(kernel, grid, context.read() + written + Size(a=4 * positions))
    _emit_image_mean(context, positions, loss)


def _batch_mean(context: Context, kernel: Kernel, mean: Buffer) -> None:
    """The last program to finish adds up the losses of all images, one of each, in their order."""
    kernel.pointer("partial", context.workspace)
    kernel.pointer("counters", context.counters)
    kernel.pointer("mean", mean)
    kernel.constant(BLOCK=SUM_BLOCK)
    kernel.write("tl.store(partial + n, WEIGHT * row_loss, mask=live)\npid = 0  # one counter for all programs")
    kernel.write(ARRIVE)
    with kernel.block("if arrived == tl.num_programs(0) - 1:"):
        kernel.write(MEAN)
        kernel.write(RESET)


def _store(rows: Rows, positions: int) -> str:
    """Where a row's loss goes: to its position's place, or, where an image has just one, to the image's."""
    if positions == 1:
        return "tl.store(loss + n.to(tl.int64) * loss_n, WEIGHT * row_loss, mask=live)"
    place = f"n.to(tl.int64) * ({rows.height} * {rows.width}) + {rows.h} * {rows.width} + {rows.w}"
    return f"tl.store(partial + {place}, row_loss, mask=live)"


def _emit_image_mean(context: Context, positions: int, loss: Buffer) -> None:
    op = context.anchor
    assert isinstance(op, ops.CrossEntropy)
    kernel = Kernel("image_mean", "Mean of the losses of an image's positions; one program per image.")
    kernel.pointer("partial", context.workspace)
    operand(kernel, "loss", loss)
    kernel.counts(POSITIONS=positions)
    kernel.constant(WEIGHT=op.weight, BLOCK=SUM_BLOCK)
    kernel.write(IMAGE_MEAN)
    context.add(kernel, (Programs(Size(a=1)),), Size(a=4 * (positions + 1)), Size())


def emit_batch_mean(context: Context) -> None:
    """The mean of the sum of some numbers per image: one program, in order."""
    assert isinstance(context.anchor, ops.BatchMean)
    (out,) = context.outputs
    assert out is not None
    kernel = Kernel("batch_mean", "Mean over the batch of one number per image, or of the sum of several.")
    names = [operand(kernel, "x", x) for x in context.operands]
    kernel.pointer("out", out)
    kernel.batch()
    kernel.constant(BLOCK=SUM_BLOCK)
    lines = [f"    acc += tl.load({name} + n * {name}_n, mask=n < N, other=0.0)" for name in names]
    kernel.write(
        "\n".join(
            [
                "acc = tl.full((BLOCK,), 0.0, tl.float32)",
                "for block in range((N + BLOCK - 1) // BLOCK):",
                "    n = (block * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)",
                *lines,
                "tl.store(out, tl.sum(acc, axis=0) / (N * 1.0))",
            ]
        )
    )
    context.add(kernel, (Programs(Size(c=1)),))
