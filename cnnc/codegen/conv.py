"""Convolution forward and with respect to its input, as implicit matrix products.

Rows are output pixels times images, columns channels of the result; one flattened loop runs over taps and
channel blocks. Where a tap has fewer channels than a block holds, the block *gathers* across taps: KRSC
weights are contiguous in (tap, channel), so that only the image needs coordinates per element.
"""

from __future__ import annotations

from cnnc.codegen.context import Context
from cnnc.codegen.epilogue import chain_name, chain_text, finish
from cnnc.codegen.kernel import Kernel, fixed
from cnnc.codegen.launch import Programs
from cnnc.codegen.rows import Rows, operand
from cnnc.ir import ops
from cnnc.ir.window import Window
from cnnc.passes.tiles import phases

TILE = """
column_tiles = (COLUMNS + BN - 1) // BN
pid = tl.program_id(0)
rows = pid // (column_tiles * GROUPS) * BM + tl.arange(0, BM)
group = pid // column_tiles % GROUPS
column = pid % column_tiles * BN + tl.arange(0, BN)
channel = group * COLUMNS + column
channel_live = column < COLUMNS
"""

FPROP_TAPS = """
top = p * STRIDE_H - PAD_TOP
left = q * STRIDE_W - PAD_LEFT
x_image = n.to(tl.int64) * x_n + group * C
w_column = channel.to(tl.int64) * (R * S * C)
blocks = (C + BK - 1) // BK
trips = R * S * blocks
tl.assume(trips > 0)  # a loop that might not run would serialise the matrix instructions
acc = tl.full((BM, BN), 0.0, tl.float32)
for trip in range(trips):
    tap = trip // blocks
    c = trip % blocks * BK + tl.arange(0, BK)
    h = top + tap // S * DILATION_H
    w_ = left + tap % S * DILATION_W
    inside = live & (h >= 0) & (h < H) & (w_ >= 0) & (w_ < W)
    x_row = x_image + h.to(tl.int64) * x_h + w_.to(tl.int64) * x_w
    a = tl.load(x + x_row[:, None] + c[None, :], mask=inside[:, None] & (c < C)[None, :], other=0.0)
    w_at = w + w_column[None, :] + (tap * C + c)[:, None]
    b = tl.load(w_at, mask=(c < C)[:, None] & channel_live[None, :], other=0.0)
    acc = tl.dot(a, b.to(a.dtype), acc, input_precision="ieee")
"""

FPROP_GATHER = """
top = p * STRIDE_H - PAD_TOP
left = q * STRIDE_W - PAD_LEFT
x_image = n.to(tl.int64) * x_n + group * C
depth = R * S * C
w_column = channel.to(tl.int64) * depth
trips = (depth + BK - 1) // BK
tl.assume(trips > 0)  # a loop that might not run would serialise the matrix instructions
acc = tl.full((BM, BN), 0.0, tl.float32)
for trip in range(trips):
    k = trip * BK + tl.arange(0, BK)
    tap = k // C
    c = k % C
    h = top[:, None] + (tap // S * DILATION_H)[None, :]
    w_ = left[:, None] + (tap % S * DILATION_W)[None, :]
    inside = live[:, None] & (k < depth)[None, :] & (h >= 0) & (h < H) & (w_ >= 0) & (w_ < W)
    x_at = x + x_image[:, None] + h.to(tl.int64) * x_h + w_.to(tl.int64) * x_w + c[None, :]
    a = tl.load(x_at, mask=inside, other=0.0)
    w_at = w + w_column[None, :] + k[:, None]
    b = tl.load(w_at, mask=(k < depth)[:, None] & channel_live[None, :], other=0.0)
    acc = tl.dot(a, b.to(a.dtype), acc, input_precision="ieee")
"""

# Pixels of one stride phase have the same taps, so that a phase's loop meets no tap that misses.
DGRAD_PHASES = """
phase = tl.program_id(1)
first_h = phase // STRIDE_W
first_w = phase % STRIDE_W
phase_h = (H - first_h + STRIDE_H - 1) // STRIDE_H
phase_w = (W - first_w + STRIDE_W - 1) // STRIDE_W
live = rows < phase_h * phase_w * N
n = rows % N
width = tl.maximum(phase_w, 1)  # a stride may exceed the image
h = first_h + rows // N // width * STRIDE_H
w_ = first_w + rows // N % width * STRIDE_W
first_r = (first_h + PAD_TOP) % STRIDE_H
first_s = (first_w + PAD_LEFT) % STRIDE_W
taps_r = tl.maximum((R - first_r + STRIDE_H - 1) // STRIDE_H, 1)
taps_s = tl.maximum((S - first_s + STRIDE_W - 1) // STRIDE_W, 1)
"""

DGRAD_TAPS = """
dy_image = n.to(tl.int64) * dy_n + group * K
blocks = (K + BK - 1) // BK
trips = taps_r * taps_s * blocks
tl.assume(trips > 0)  # a loop that might not run would serialise the matrix instructions
acc = tl.full((BM, BN), 0.0, tl.float32)
for trip in range(trips):
    tap = trip // blocks
    k = trip % blocks * BK + tl.arange(0, BK)
    r = first_r + tap // taps_s * STEP_R
    s = first_s + tap % taps_s * STEP_S
    down = h + PAD_TOP - r * DILATION_H
    right = w_ + PAD_LEFT - s * DILATION_W
    p = down // STRIDE_H
    q = right // STRIDE_W
    inside = live & (down >= 0) & (right >= 0) & (p < P) & (q < Q)
    inside = inside & (down % STRIDE_H == 0) & (right % STRIDE_W == 0)
    dy_row = dy_image + p.to(tl.int64) * dy_h + q.to(tl.int64) * dy_w
    k_live = k < tl.where(r < R, tl.where(s < S, K, 0), 0)  # a phase without taps runs one empty step
    a = tl.load(dy + dy_row[:, None] + k[None, :], mask=inside[:, None] & k_live[None, :], other=0.0)
    w_row = (group * K + k).to(tl.int64) * (R * S * COLUMNS) + (r * S + s) * COLUMNS
    b = tl.load(w + w_row[:, None] + column[None, :], mask=k_live[:, None] & channel_live[None, :], other=0.0)
    acc = tl.dot(a, b.to(a.dtype), acc, input_precision="ieee")
"""

DGRAD_GATHER = """
dy_image = n.to(tl.int64) * dy_n + group * K
depth = R * S * K
trips = (depth + BK - 1) // BK
tl.assume(trips > 0)  # a loop that might not run would serialise the matrix instructions
acc = tl.full((BM, BN), 0.0, tl.float32)
for trip in range(trips):
    j = trip * BK + tl.arange(0, BK)
    tap = j // K
    k = j % K
    down = (h + PAD_TOP)[:, None] - (tap // S * DILATION_H)[None, :]
    right = (w_ + PAD_LEFT)[:, None] - (tap % S * DILATION_W)[None, :]
    p = down // STRIDE_H
    q = right // STRIDE_W
    inside = live[:, None] & (j < depth)[None, :] & (down >= 0) & (right >= 0) & (p < P) & (q < Q)
    inside = inside & (down % STRIDE_H == 0) & (right % STRIDE_W == 0)
    dy_at = dy + dy_image[:, None] + p.to(tl.int64) * dy_h + q.to(tl.int64) * dy_w + k[None, :]
    a = tl.load(dy_at, mask=inside, other=0.0)
    w_row = (group * K + k).to(tl.int64) * (R * S * COLUMNS) + tap * COLUMNS
    b = tl.load(w + w_row[:, None] + column[None, :], mask=(j < depth)[:, None] & channel_live[None, :], other=0.0)
    acc = tl.dot(a, b.to(a.dtype), acc, input_precision="ieee")
"""


def declare_window(kernel: Kernel, window: Window) -> None:
    """Add a window's arithmetic as compile-time constants."""
    kernel.constant(
        R=window.kernel[0],
        S=window.kernel[1],
        STRIDE_H=window.stride[0],
        STRIDE_W=window.stride[1],
        PAD_TOP=window.pad[0],
        PAD_LEFT=window.pad[2],
        DILATION_H=window.dilation[0],
        DILATION_W=window.dilation[1],
    )


def emit_conv(context: Context) -> None:
    """Conv forward: ``[P*Q*N, taps*C] x [taps*C, K]`` per group."""
    op = context.anchor
    assert isinstance(op, ops.Conv)
    x, w = context.operands
    image = op.window.output((x.shape[0], x.shape[1]))
    gathers = context.gathers
    name = "conv_fprop_gather" if gathers else "conv_fprop"
    how = "blocks that span several taps" if gathers else "one tap and one block of channels at a time"
    summary = f"Convolution, {how}.{chain_text(context, 1)}"
    kernel = Kernel(chain_name(context, name), summary)
    rows = Rows(image)
    operand(kernel, "x", x)
    kernel.pointer("w", w)
    rows.declare(kernel)
    filters = w.shape[0] // op.groups
    kernel.counts(H=x.shape[0], W=x.shape[1])
    kernel.integers(C=w.shape[3], COLUMNS=filters)
    declare_window(kernel, op.window)
    _tile(context, kernel, op.groups)
    kernel.write("\n".join(rows.decode()))
    kernel.write(FPROP_GATHER if gathers else FPROP_TAPS)
    finish(context, kernel, rows, ["acc"], channels="(COLUMNS * GROUPS)")
    tile = context.tile
    context.add(kernel, rows.programs(tile.m, -(-filters // tile.n) * op.groups))


def emit_conv_dgrad(context: Context) -> None:
    """Conv with respect to its input: every dx gathers the dy that its pixel reached."""
    op = context.anchor
    assert isinstance(op, ops.ConvDgrad)
    dy, w = context.operands
    gathers = context.gathers
    phased = phases(op) > 1 and not gathers
    words = ["conv_dgrad"] + ["gather"] * gathers + ["phases"] * phased
    summary = f"Gradient of a convolution with respect to its input.{chain_text(context, 1)}"
    kernel = Kernel(chain_name(context, "_".join(words)), summary)
    rows = Rows(op.image, "h", "w_", "H", "W")
    operand(kernel, "dy", dy)
    kernel.pointer("w", w)
    rows.declare(kernel)
    kernel.counts(P=dy.shape[0], Q=dy.shape[1])
    kernel.integers(K=w.shape[0] // op.groups, COLUMNS=w.shape[3])
    declare_window(kernel, op.window)
    _tile(context, kernel, op.groups)
    if phased:
        kernel.write(DGRAD_PHASES)
    else:
        kernel.write("\n".join(rows.decode()))
    if not gathers:
        stride = op.window.stride if phased else (1, 1)
        kernel.constant(STEP_R=stride[0], STEP_S=stride[1])
        if not phased:
            kernel.write("first_r = 0\nfirst_s = 0\ntaps_r = R\ntaps_s = S")
    kernel.write(DGRAD_GATHER if gathers else DGRAD_TAPS)
    finish(context, kernel, rows, ["acc"], channels="(COLUMNS * GROUPS)")
    tile = context.tile
    times = -(-w.shape[3] // tile.n) * op.groups
    context.add(kernel, _dgrad_grid(rows, op, phased, tile.m, times))


def _dgrad_grid(rows: Rows, op: ops.ConvDgrad, phased: bool, block: int, times: int) -> tuple[Programs, ...]:
    if not phased:
        return rows.programs(block, times)
    stride = op.window.stride
    # The first phase has the most pixels.
    part = Rows((-(-op.image[0] // stride[0]), -(-op.image[1] // stride[1])))
    return (*part.programs(block, times), fixed(phases(op)))


def _tile(context: Context, kernel: Kernel, groups: int) -> None:
    tile = context.tile
    kernel.constant(GROUPS=groups, BM=tile.m, BN=tile.n, BK=tile.k)
    kernel.write(TILE)
