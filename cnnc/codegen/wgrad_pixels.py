"""Weight gradients of convolutions in blocks: images at one pixel of dy times the same images at the pixel a tap saw.

A program's tap is fixed, so that pixels at which it looks outside the image are left out, unless dy is computed and
stored on the way. The image's blocks come through tensor descriptors. No GPU has run these kernels.
"""

from __future__ import annotations

from cnnc.codegen.body import Body
from cnnc.codegen.place import Place

# Pixels [low_p, end_p) x [low_q, end_q) of dy.
REACHED = """
low_p = (tl.maximum(-down, 0) + STRIDE_H - 1) // STRIDE_H
low_q = (tl.maximum(-right, 0) + STRIDE_W - 1) // STRIDE_W
end_p = tl.minimum((tl.maximum(H - down, 0) + STRIDE_H - 1) // STRIDE_H, P)
end_q = tl.minimum((tl.maximum(W - right, 0) + STRIDE_W - 1) // STRIDE_W, Q)
end_p = tl.where(end_q > low_q, end_p, low_p)  # a tap may see no pixel at all
"""

ALL = """
low_p = 0
low_q = 0
end_p = P
end_q = Q
"""

BEGIN = """
split = tl.program_id(1)
image_tiles = (N + BK - 1) // BK
across = tl.maximum(end_q - low_q, 1)
tiles = tl.maximum(end_p - low_p, 0) * across * image_tiles
trips = tl.maximum((tiles + SPLITS - 1) // SPLITS, 1)
tl.assume(trips > 0)  # a loop that might not run would serialise the matrix instructions
first = split * trips % image_tiles * BK
q = low_q + split * trips // image_tiles % across
p = low_p + split * trips // image_tiles // across
acc = tl.full((BM, BN), 0.0, tl.float32)
"""

# What lies beyond the last image is zero: trips of the last split that are too many.
IMAGES = """
first_image = tl.where(p < end_p, first, N)
h = p * STRIDE_H + down
w = q * STRIDE_W + right
"""

ELEMENTS = """
n = first_image + tl.arange(0, BK)
live = n < N
dy_mask = live[:, None] & filter_live[None, :]
"""

X_REACHED = """
x_pixel = h * W + w
inside = live
x_mask = live[:, None] & column_live[None, :]
"""

X_ALL = """
seen = (h >= 0) & (h < H) & (w >= 0) & (w < W)
x_pixel = tl.where(seen, h * W + w, -1)
inside = live & seen
x_mask = inside[:, None] & column_live[None, :]
"""

NEXT = """
first += BK
next_pixel = first >= N
first = tl.where(next_pixel, 0, first)
q += next_pixel.to(tl.int32)
next_row = q >= end_q
q = tl.where(next_row, low_q, q)
p += next_row.to(tl.int32)
"""


def sum_pixels(body: Body, left: Place, right: Place) -> None:
    """The loop over this split's blocks of images."""
    kernel, context = body.kernel, body.context
    dy, x = body.part(context.main).operands
    stored = any(body.maker(number) not in (None, context.main) for number in context.results)
    kernel.constant(BK=context.tile.k)
    kernel.write(ALL if stored else REACHED)
    kernel.write(BEGIN)
    with kernel.block("for trip in range(trips):"):
        kernel.write(IMAGES)
        kernel.write(ELEMENTS)
        a = body.factor(dy, left, "dy")
        kernel.write(X_ALL if stored else X_REACHED)
        b = body.factor(x, right, "x")
        kernel.write(f'acc = tl.dot(tl.trans({a}), {b}, acc, input_precision="ieee")')
        kernel.write(NEXT)
