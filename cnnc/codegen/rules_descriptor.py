"""Matrix products whose factors are loaded in blocks, through tensor descriptors.

A tile's rows are images at one pixel, so that a tap is a scalar coordinate; taps outside the image are not
looked at. Or, without a window, they are any rows in order. Beyond its operands' edges a block is zero: the last
channels, filters and images need no masks. No GPU has run these kernels: the interpreter has, and they compile.
"""

from __future__ import annotations

from cnnc.codegen.body import Body
from cnnc.codegen.descriptors import matrix_of, taps_of
from cnnc.codegen.place import Corner, Place
from cnnc.codegen.products import Product
from cnnc.codegen.rows import Rows
from cnnc.codegen.rules_conv import ASSUME, declare_window
from cnnc.codegen.template import instantiate
from cnnc.ir import ops

# Taps [low_row, end_row) x [low_column, end_column) of the window on output pixel (p, q) lie in the image.
CONV_TAPS = """
top = p * STRIDE_H - PAD_TOP
left = q * STRIDE_W - PAD_LEFT
low_row = (tl.maximum(-top, 0) + DILATION_H - 1) // DILATION_H
low_column = (tl.maximum(-left, 0) + DILATION_W - 1) // DILATION_W
end_row = tl.minimum((H - top + DILATION_H - 1) // DILATION_H, R)
end_column = tl.minimum((W - left + DILATION_W - 1) // DILATION_W, S)
"""

CONV_TAP = """
h = top + row * DILATION_H
w_ = left + column * DILATION_W
"""

# A single tap that always sees a pixel needs no walk over taps.
CONV_POINT = f"""
h = p * STRIDE_H
w_ = q * STRIDE_W
trips = tl.maximum((DEPTH + BK - 1) // BK, 1)
{ASSUME}"""

CONV_WEIGHT = """
b = tl.reshape(w.load([first_channel, row * S + column, first]), (WIDTH, BK))
"""

# Rows and columns of taps are counted among those that reach the pixel: they are a stride apart.
DGRAD_TAPS = """
down = (h + PAD_TOP) // STRIDE_H
right = (w_ + PAD_LEFT) // STRIDE_W
first_r = (h + PAD_TOP) % STRIDE_H
first_s = (w_ + PAD_LEFT) % STRIDE_W
low_row = (tl.maximum(down - P + 1, 0) + DILATION_H - 1) // DILATION_H
low_column = (tl.maximum(right - Q + 1, 0) + DILATION_W - 1) // DILATION_W
end_row = tl.minimum((R - first_r + STRIDE_H - 1) // STRIDE_H, down // DILATION_H + 1)
end_column = tl.minimum((S - first_s + STRIDE_W - 1) // STRIDE_W, right // DILATION_W + 1)
"""

DGRAD_TAP = """
r = first_r + row * STRIDE_H
s = first_s + column * STRIDE_W
p = down - row * DILATION_H
q = right - column * DILATION_W
"""

DGRAD_WEIGHT = """
b = tl.reshape(w.load([first, r * S + s, first_channel]), (BK, WIDTH))
"""

# The maximum says what the assumption does: ptxas has been seen to need both.
BEGIN = f"""
trips = tl.maximum((end_row - low_row) * (end_column - low_column) * ((DEPTH + BK - 1) // BK), 1)
{ASSUME}first = 0
row = low_row
column = low_column
"""

# A pixel without taps takes one step beyond the last channel.
BEGIN_BLANK = f"""
taps = tl.maximum(end_row - low_row, 0) * tl.maximum(end_column - low_column, 0)
trips = tl.maximum(taps * ((DEPTH + BK - 1) // BK), 1)
{ASSUME}first = tl.where(taps > 0, 0, DEPTH)
row = low_row
column = low_column
"""

# Only where the block is more than loaded: what its elements are.
ELEMENTS = """
c = first + tl.arange(0, BK)
c_live = c < DEPTH
a_mask = live[:, None] & c_live[None, :]
"""

NEXT = """
first += BK
next_tap = first >= DEPTH
first = tl.where(next_tap, 0, first)
column += next_tap.to(tl.int32)
next_row = column >= end_column
column = tl.where(next_row, low_column, column)
row += next_row.to(tl.int32)
"""

LINEAR_BEGIN = f"""
trips = tl.maximum((DEPTH + BK - 1) // BK, 1)
{ASSUME}"""

# By whether it is the gradient.
LINEAR_WEIGHT = {False: "b = w.load([first_channel, first])", True: "b = w.load([first, first_channel])"}


def conv(body: Body, index: int, place: Place, onto: str | None) -> tuple[str, ...]:
    """Conv forward: a pixel's images times the channels of each tap that lies in the image."""
    part = body.part(index)
    op, (x, w) = part.op, part.operands
    assert isinstance(op, ops.Conv)
    tag, kernel = body.tag(index), body.kernel
    height, width, channels = body.types[x].shape
    kernel.counts(**{f"H{tag}": height, f"W{tag}": width})
    kernel.integers(**{f"C{tag}": channels})
    declare_window(kernel, op.window, tag)
    weight = body.block(w, "w", taps_of(body.buffer(w)), (place.width, "1", "BK"))
    names = _names(place, f"C{tag}") | place.names() | {"w": weight}
    point = op.window.taps == 1 and not any(op.window.pad)
    if point:
        names |= {"row": "0", "column": "0"}
        kernel.write(instantiate(CONV_POINT, tag, names))
    else:
        begin = BEGIN if op.window.always_sees((height, width)) else BEGIN_BLANK
        kernel.write(instantiate(CONV_TAPS + begin.lstrip("\n"), tag, names))
    rows = Rows((height, width), f"h{tag}", f"w_{tag}", f"H{tag}", f"W{tag}", pixelwise=True)
    inner = _inner(body, place, rows, tag, f"C{tag}")
    product = Product(body, x, place, tag, onto)
    product.begin()
    with kernel.block(f"for trip{tag} in range(trips{tag}):"):
        kernel.write(f"first{tag} = trip{tag} * BK" if point else instantiate(CONV_TAP, tag, names))
        _multiply(product, "x", inner, names, CONV_WEIGHT, transposed=True)
        if not point:
            kernel.write(instantiate(NEXT, tag, names))
    return product.end()


def conv_dgrad(body: Body, index: int, place: Place, onto: str | None) -> tuple[str, ...]:
    """Conv with respect to its input: an input pixel's images times the filters of each tap that reached it."""
    part = body.part(index)
    op, (dy, w) = part.op, part.operands
    assert isinstance(op, ops.ConvDgrad)
    tag, kernel = body.tag(index), body.kernel
    height, width, filters = body.types[dy].shape
    kernel.counts(**{f"P{tag}": height, f"Q{tag}": width})
    kernel.integers(**{f"K{tag}": filters})
    declare_window(kernel, op.window, tag)
    weight = body.block(w, "w", taps_of(body.buffer(w)), ("BK", "1", place.width))
    names = _names(place, f"K{tag}") | place.names("h", "w_") | {"w": weight}
    begin = BEGIN if op.window.touched(op.image) == op.image else BEGIN_BLANK
    kernel.write(instantiate(DGRAD_TAPS + begin.lstrip("\n"), tag, names))
    rows = Rows((height, width), f"p{tag}", f"q{tag}", f"P{tag}", f"Q{tag}", pixelwise=True)
    inner = _inner(body, place, rows, tag, f"K{tag}")
    product = Product(body, dy, place, tag, onto)
    product.begin()
    with kernel.block(f"for trip{tag} in range(trips{tag}):"):
        kernel.write(instantiate(DGRAD_TAP, tag, names))
        _multiply(product, "dy", inner, names, DGRAD_WEIGHT, transposed=False)
        kernel.write(instantiate(NEXT, tag, names))
    return product.end()


def linear(body: Body, index: int, place: Place, onto: str | None) -> tuple[str, ...]:
    """``x [rows, C]`` times ``w [K, C]`` transposed, or ``dy [rows, K]`` times ``w``."""
    part = body.part(index)
    backward = isinstance(part.op, ops.LinearDgrad)
    left = "dy" if backward else "x"
    x, w = part.operands
    tag, kernel = body.tag(index), body.kernel
    kernel.integers(**{f"DEPTH{tag}": body.types[x].shape[-1]})
    block = ("BK", place.width) if backward else (place.width, "BK")
    weight = body.block(w, "w", matrix_of(body.buffer(w)), block)
    names = _names(place, f"DEPTH{tag}") | place.names() | {"w": weight}
    inner = _inner(body, place, place.rows, tag, f"DEPTH{tag}", None if place.key else body.context.first_column)
    kernel.write(instantiate(LINEAR_BEGIN, tag, names))
    product = Product(body, x, place, tag, onto)
    product.begin()
    with kernel.block(f"for trip{tag} in range(trips{tag}):"):
        kernel.write(f"first{tag} = trip{tag} * BK")
        _multiply(product, left, inner, names, LINEAR_WEIGHT[backward], transposed=not backward)
    return product.end()


def _names(place: Place, depth: str) -> dict[str, str]:
    """What the templates call the place's corner and extent, and the number of channels summed over."""
    assert place.corner is not None
    return {"first_channel": place.corner.channel, "WIDTH": place.width, "DEPTH": depth}


def _inner(body: Body, place: Place, rows: Rows, tag: str, channels: str, stored_if: str | None = None) -> Place:
    """The place of the left factor in the loop: the same rows, elsewhere in the image where ``rows`` are others."""
    assert place.corner is not None
    pixel = place.corner.pixel if rows == place.rows else f"{rows.h} * {rows.width} + {rows.w}"
    return Place(
        key=body.fresh(),
        rows=rows,
        live=place.live,
        channel=f"c{tag}",
        channel_live=f"c_live{tag}",
        mask=f"a_mask{tag}",
        channels=channels,
        height=place.height,
        width="BK",
        stored_if=stored_if,
        corner=Corner(place.corner.row, f"first{tag}", pixel),
    )


def _multiply(
    product: Product, name: str, inner: Place, names: dict[str, str], weight: str, *, transposed: bool
) -> None:
    """Load or compute the left factor, load the right one, add their product to the accumulator."""
    body, tag = product.body, product.tag
    if not body.loads_block(product.left, inner):
        body.kernel.write(instantiate(ELEMENTS, tag, names))
    factor = body.factor(product.left, inner, name)
    body.kernel.write(instantiate(weight, tag, names))
    product.step(names, factor, transposed=transposed)
