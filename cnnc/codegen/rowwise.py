"""Softmax and distances: kernels that need a whole row of channels at once, in blocks of any number."""

from __future__ import annotations

from cnnc.codegen.context import Context
from cnnc.codegen.kernel import Kernel, fixed
from cnnc.codegen.rows import Rows, operand, rows_of
from cnnc.ir import ops

ROWS = "rows = tl.program_id(0) * BM + tl.arange(0, BM)"

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

# Differences first: |x|^2 - 2xw + |w|^2 would cancel where a vector is near its code.
DISTANCE = """
code = tl.program_id(1)
acc = tl.full((BM,), 0.0, tl.float32)
for block in range((C + BN - 1) // BN):
    channel = block * BN + tl.arange(0, BN)
    tile_live = live[:, None] & (channel < C)[None, :]
    value = tl.load(x + x_row[:, None] + channel[None, :], mask=tile_live, other=0.0).to(tl.float32)
    centre = tl.load(w + code.to(tl.int64) * C + channel, mask=channel < C, other=0.0).to(tl.float32)
    off = tl.where(tile_live, value - centre[None, :], 0.0)
    acc += tl.sum(off * off, axis=1)
tl.store(out + out_row + code, acc.to(out.dtype.element_ty), mask=live)
"""

DISTANCE_GRAD = """
channel = tl.program_id(1) * BN + tl.arange(0, BN)
channel_live = channel < C
tile_live = live[:, None] & channel_live[None, :]
value = tl.load(x + x_row[:, None] + channel[None, :], mask=tile_live, other=0.0).to(tl.float32)
acc = tl.full((BM, BN), 0.0, tl.float32)
w_at = w + channel
for code in range(K):
    slope = tl.load(dy + dy_row + code, mask=live, other=0.0).to(tl.float32)
    centre = tl.load(w_at, mask=channel_live, other=0.0).to(tl.float32)
    w_at += C
    acc += slope[:, None] * (value - centre[None, :])
tl.store(out + out_row[:, None] + channel[None, :], (2.0 * acc).to(out.dtype.element_ty), mask=tile_live)
"""


def begin_rows(context: Context, kernel: Kernel, rows: Rows, channels: int, operands: tuple[str, ...]) -> None:
    """Write the decoding of a block of rows and the offsets of these operands' rows."""
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
    begin_rows(context, kernel, rows, x.shape[-1], ("x", "out"))
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
    begin_rows(context, kernel, rows, dy.shape[-1], ("dy", "y", "out"))
    kernel.write(SOFTMAX_GRAD)
    context.add(kernel, rows.programs(context.tile.m, 1))


def emit_rbf(context: Context) -> None:
    """Squared distances of each vector from every code; one column of programs per code."""
    assert isinstance(context.anchor, ops.Rbf)
    x, w = context.operands
    (out,) = context.outputs
    assert out is not None
    kernel = Kernel("rbf", "Squared distance of each row from each code.")
    rows = rows_of(x)
    operand(kernel, "x", x)
    kernel.pointer("w", w)
    operand(kernel, "out", out)
    begin_rows(context, kernel, rows, x.shape[-1], ("x", "out"))
    kernel.write(DISTANCE)
    context.add(kernel, (*rows.programs(context.tile.m, 1), fixed(w.shape[0])))


def emit_rbf_grad(context: Context) -> None:
    """dx = 2 sum_k dy_k (x - w_k)."""
    assert isinstance(context.anchor, ops.RbfGrad)
    dy, x, w = context.operands
    (out,) = context.outputs
    assert out is not None
    kernel = Kernel("rbf_grad", "Gradient of squared distances from codes.")
    rows = rows_of(x)
    for name, buffer in (("dy", dy), ("x", x), ("out", out)):
        operand(kernel, name, buffer)
    kernel.pointer("w", w)
    begin_rows(context, kernel, rows, x.shape[-1], ("dy", "x", "out"))
    kernel.counts(K=w.shape[0])
    kernel.write(DISTANCE_GRAD)
    context.add(kernel, (*rows.programs(context.tile.m, 1), fixed(-(-x.shape[-1] // context.tile.n))))
