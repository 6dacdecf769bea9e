"""Ops that move pixels: each pixel of the result gathers from those it is made of, zero where there are none.

No two programs write one element and sums have a fixed order, up-sampling's gradients included: a pixel
asks every output that read it.
"""

from __future__ import annotations

from cnnc.codegen.context import Context
from cnnc.codegen.epilogue import chain_name, chain_text, finish
from cnnc.codegen.kernel import Kernel
from cnnc.codegen.pointwise import begin_tile, column_tiles
from cnnc.codegen.rows import Rows, operand
from cnnc.ir import ops
from cnnc.ir.plan import Buffer
from cnnc.ir.window import Pair

SHIFT = """
h = p + DOWN
w = q + RIGHT
inside = live & (h >= 0) & (h < H) & (w >= 0) & (w < W)
"""

PICK = """
h = p * STRIDE_H
w = q * STRIDE_W
inside = live
"""

RETURN = """
p = h // STRIDE_H
q = w // STRIDE_W
inside = live & (h % STRIDE_H == 0) & (w % STRIDE_W == 0)
"""

NEAREST = """
h = p // FACTOR_H
w = q // FACTOR_W
inside = live
"""

# Output p lies at (2p + 1 + FACTOR) / (2 FACTOR) - 1 pixels, which integers can divide without rounding.
BILINEAR = """
down = 2 * p + 1 + FACTOR_H
right = 2 * q + 1 + FACTOR_W
below = (down % (2 * FACTOR_H)).to(tl.float32) / (2.0 * FACTOR_H)
after = (right % (2 * FACTOR_W)).to(tl.float32) / (2.0 * FACTOR_W)
value = tl.full((BM, BN), 0.0, tl.float32)
for corner in range(4):
    h = down // (2 * FACTOR_H) - 1 + corner // 2
    w = right // (2 * FACTOR_W) - 1 + corner % 2
    h = tl.minimum(tl.maximum(h, 0), H - 1)
    w = tl.minimum(tl.maximum(w, 0), W - 1)
    share_h = tl.where(corner // 2 == 0, 1.0 - below, below)
    share_w = tl.where(corner % 2 == 0, 1.0 - after, after)
    x_row = h.to(tl.int64) * x_h + w.to(tl.int64) * x_w + n.to(tl.int64) * x_n
    x_at = x + x_row[:, None] + channel[None, :]
    pixel = tl.load(x_at, mask=live[:, None] & channel_live[None, :], other=0.0).to(tl.float32)
    value += (share_h * share_w)[:, None] * pixel
"""

NEAREST_GRAD = """
value = tl.full((BM, BN), 0.0, tl.float32)
for tap in range(FACTOR_H * FACTOR_W):
    p = h * FACTOR_H + tap // FACTOR_W
    q = w * FACTOR_W + tap % FACTOR_W
    dy_row = p.to(tl.int64) * dy_h + q.to(tl.int64) * dy_w + n.to(tl.int64) * dy_n
    dy_at = dy + dy_row[:, None] + channel[None, :]
    value += tl.load(dy_at, mask=live[:, None] & channel_live[None, :], other=0.0).to(tl.float32)
"""

BILINEAR_GRAD = """
value = tl.full((BM, BN), 0.0, tl.float32)
for tap in range(REACH_H * REACH_W):
    p = h * FACTOR_H - FACTOR_H // 2 + tap // REACH_W
    q = w * FACTOR_W - FACTOR_W // 2 + tap % REACH_W
    share_h = tent_share(p, h, H, FACTOR_H)
    share_w = tent_share(q, w, W, FACTOR_W)
    inside = live & (p >= 0) & (p < H * FACTOR_H) & (q >= 0) & (q < W * FACTOR_W)
    dy_row = p.to(tl.int64) * dy_h + q.to(tl.int64) * dy_w + n.to(tl.int64) * dy_n
    dy_at = dy + dy_row[:, None] + channel[None, :]
    pixel = tl.load(dy_at, mask=inside[:, None] & channel_live[None, :], other=0.0).to(tl.float32)
    value += (share_h * share_w)[:, None] * pixel
"""


def _begin(context: Context, words: str, summary: str, rows: Rows, channels: int) -> Kernel:
    kernel = Kernel(chain_name(context, words), summary + chain_text(context))
    (source,) = context.operands
    operand(kernel, _name(rows), source)
    begin_tile(context, kernel, rows, channels)
    return kernel


def _name(rows: Rows) -> str:
    """The operand is an image that outputs (p, q) read, or the gradient that pixels (h, w) read."""
    return "x" if rows.h == "p" else "dy"


def _load(kernel: Kernel, rows: Rows, channels: int, available: int) -> None:
    """``value`` is the operand at the other coordinates, zero outside and in channels that it lacks."""
    name = _name(rows)
    h, w = ("h", "w") if name == "x" else ("p", "q")
    there = "channel_live"
    if available < channels:
        kernel.integers(AVAILABLE=available)
        there = "(channel < AVAILABLE)"
    kernel.write(
        f"""
        {name}_row = {h}.to(tl.int64) * {name}_h + {w}.to(tl.int64) * {name}_w + n.to(tl.int64) * {name}_n
        {name}_at = {name} + {name}_row[:, None] + channel[None, :]
        value = tl.load({name}_at, mask=inside[:, None] & {there}[None, :], other=0.0).to(tl.float32)
        """
    )


def _end(context: Context, kernel: Kernel, rows: Rows, channels: int) -> None:
    finish(context, kernel, rows, ["value"])
    context.add(kernel, rows.programs(context.tile.m, column_tiles(context, channels)))


def _rows(image: tuple[int, ...]) -> Rows:
    return Rows((image[0], image[1]))


def _pixels(image: Pair) -> Rows:
    return Rows(image, "h", "w", "H", "W")


def emit_zero_pad(context: Context) -> None:
    """An image with zeros around it."""
    op = context.anchor
    assert isinstance(op, ops.ZeroPad)
    _shifted(context, "zero_pad", "An image with zeros around it.", (-op.pad[0], -op.pad[2]))


def emit_crop(context: Context) -> None:
    """A part of an image."""
    op = context.anchor
    assert isinstance(op, ops.Crop)
    _shifted(context, "crop", "A part of an image.", op.offset)


def _shifted(context: Context, words: str, summary: str, shift: Pair) -> None:
    (x,) = context.operands
    rows, channels = _rows(context.anchor_types[0].shape), x.shape[2]
    kernel = _begin(context, words, summary, rows, channels)
    kernel.counts(H=x.shape[0], W=x.shape[1], DOWN=shift[0], RIGHT=shift[1])
    kernel.write(SHIFT)
    _load(kernel, rows, channels, channels)
    _end(context, kernel, rows, channels)


def emit_pad_shortcut(context: Context) -> None:
    """Every s-th pixel, zeros in the new channels."""
    op = context.anchor
    assert isinstance(op, ops.PadShortcut)
    (x,) = context.operands
    rows = _rows(context.anchor_types[0].shape)
    kernel = _begin(context, "pad_shortcut", "Every s-th pixel, and zeros for new channels.", rows, op.channels)
    kernel.constant(STRIDE_H=op.stride[0], STRIDE_W=op.stride[1])
    kernel.write(PICK)
    _load(kernel, rows, op.channels, x.shape[2])
    _end(context, kernel, rows, op.channels)


def emit_pad_shortcut_grad(context: Context) -> None:
    """dy where a pixel was picked, else zero."""
    op = context.anchor
    assert isinstance(op, ops.PadShortcutGrad)
    rows = _pixels(op.image)
    summary = "Gradient of a shortcut that picks every s-th pixel: zero between them."
    kernel = _begin(context, "pad_shortcut_grad", summary, rows, op.channels)
    kernel.constant(STRIDE_H=op.stride[0], STRIDE_W=op.stride[1])
    kernel.write(RETURN)
    _load(kernel, rows, op.channels, op.channels)
    _end(context, kernel, rows, op.channels)


def emit_upsample(context: Context) -> None:
    """The nearest pixel, or the four around it."""
    op = context.anchor
    assert isinstance(op, ops.Upsample)
    (x,) = context.operands
    rows, channels = _rows(context.anchor_types[0].shape), x.shape[2]
    kernel = _begin(context, f"upsample_{op.mode}", f"Up-sampling, {op.mode}.", rows, channels)
    _declare_factor(kernel, op.factor)
    if op.mode == "nearest":
        kernel.write(NEAREST)
        _load(kernel, rows, channels, channels)
    else:
        _declare_image(kernel, x)
        kernel.write(BILINEAR)
    _end(context, kernel, rows, channels)


def emit_upsample_grad(context: Context) -> None:
    """The sum over all outputs that read this pixel."""
    op = context.anchor
    assert isinstance(op, ops.UpsampleGrad)
    height, width, channels = context.anchor_types[0].shape
    rows = _pixels((height, width))
    summary = f"Gradient of {op.mode} up-sampling: each pixel gathers from the outputs that read it."
    kernel = _begin(context, f"upsample_{op.mode}_grad", summary, rows, channels)
    _declare_factor(kernel, op.factor)
    if op.mode == "bilinear":
        # Outputs less than one pixel away: an odd factor puts one of them on the pixel itself.
        reach_h, reach_w = (2 * factor - factor % 2 for factor in op.factor)
        kernel.constant(REACH_H=reach_h, REACH_W=reach_w)
        kernel.helpers.append("tent_share")
    kernel.write(NEAREST_GRAD if op.mode == "nearest" else BILINEAR_GRAD)
    _end(context, kernel, rows, channels)


def _declare_factor(kernel: Kernel, factor: Pair) -> None:
    kernel.constant(FACTOR_H=factor[0], FACTOR_W=factor[1])


def _declare_image(kernel: Kernel, x: Buffer) -> None:
    kernel.counts(H=x.shape[0], W=x.shape[1])
