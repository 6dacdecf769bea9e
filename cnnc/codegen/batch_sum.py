"""Sums over the batch, one per position: the gradient of a bias that every position has for itself."""

from __future__ import annotations

import math

from cnnc.codegen.context import Context
from cnnc.codegen.kernel import Kernel, fixed
from cnnc.codegen.rows import operand
from cnnc.ir import ops

ELEMENTS = """
element = tl.program_id(0) * BN + tl.arange(0, BN)
element_live = element < COUNT
"""
# Each program adds up whole columns, block after block of images, so that the order is always the same.
SUM = """
acc = tl.full((BN,), 0.0, tl.float32)
for block in range((N + BM - 1) // BM):
    n = block * BM + tl.arange(0, BM)
    dy_at = dy + n.to(tl.int64)[:, None] * dy_n + at[None, :]
    dy_tile = tl.load(dy_at, mask=(n < N)[:, None] & element_live[None, :], other=0.0)
    acc += tl.sum(dy_tile.to(tl.float32), axis=0)
tl.store(out + element, acc, mask=element_live)
"""
IMAGE = """
pixel = element // C
at = (pixel // Q).to(tl.int64) * dy_h + (pixel % Q).to(tl.int64) * dy_w + element % C
"""


def emit_batch_sum(context: Context) -> None:
    """The sum of each element of an image or vector over the batch."""
    assert isinstance(context.anchor, ops.BatchSum)
    (dy,) = context.operands
    (out,) = context.outputs
    assert out is not None
    count = math.prod(dy.shape)
    kernel = Kernel("batch_sum", "Sum of each element over the images of a batch.")
    operand(kernel, "dy", dy)
    kernel.pointer("out", out)
    kernel.batch()
    kernel.counts(COUNT=count)
    kernel.constant(BM=context.tile.m, BN=context.tile.n)
    kernel.write(ELEMENTS)
    if len(dy.shape) == 3:
        kernel.counts(Q=dy.shape[1])
        kernel.integers(C=dy.shape[2])
        kernel.write(IMAGE)
    else:
        kernel.write("at = element")
    kernel.write(SUM)
    context.add(kernel, (fixed(-(-count // context.tile.n)),))
