"""Windows the other way: gradients of pools and of depthwise convolutions, each channel for itself.

They gather: each pixel of dx asks every window that it may lie in, so that no two programs write one element and the
sums have a fixed order. Sums are in float32.
"""

from __future__ import annotations

from dataclasses import replace

from cnnc.codegen.body import Body
from cnnc.codegen.place import Place
from cnnc.codegen.rows import Rows
from cnnc.codegen.rules_conv import declare_window
from cnnc.codegen.rules_window import DIVISOR, declare_counted
from cnnc.codegen.template import instantiate
from cnnc.ir import ops
from cnnc.ir.window import Window

# The output (p, q) whose tap reads pixel (h, w).
TAP = """
down = h + PAD_TOP - tap // S * DILATION_H
right = w_ + PAD_LEFT - tap % S * DILATION_W
p = down // STRIDE_H
q = right // STRIDE_W
inside = live & (down >= 0) & (right >= 0) & (p < P) & (q < Q)
inside = inside & (down % STRIDE_H == 0) & (right % STRIDE_W == 0)
tap_live = inside[:, None] & channel_live[None, :]
"""

FILTER = """
tap_weight = tl.load(w + filter.to(tl.int64) * (R * S) + tap, mask=channel_live, other=0.0).to(tl.float32)
acc += value * tap_weight[None, :]
"""


def _begin(body: Body, index: int, place: Place, window: Window) -> tuple[Place, str, dict[str, str]]:
    """Declare the window and the sum; gives the place of a tap, the tag, and the names of the pixel."""
    tag, kernel = body.tag(index), body.kernel
    image = body.types[body.part(index).operands[0]].shape
    kernel.counts(**{f"P{tag}": image[0], f"Q{tag}": image[1]})
    declare_window(kernel, window, tag)
    inner = Place(
        key=body.fresh(),
        rows=Rows((image[0], image[1]), f"p{tag}", f"q{tag}", f"P{tag}", f"Q{tag}"),
        live=f"inside{tag}",
        channel=place.channel,
        channel_live=place.channel_live,
        mask=f"tap_live{tag}",
        channels=place.channels,
        height=place.height,
        width=place.width,
    )
    return inner, tag, place.names("h", "w_") | {"tap": f"tap{tag}"}


def _value(body: Body, number: int, inner: Place) -> str:
    """What a tap reads, zero where it reads nothing."""
    value = body.value(number, inner, "dy")
    return value if body.maker(number) is None else f"tl.where({inner.mask}, {value}, 0.0)"


def max_pool_grad(body: Body, index: int, place: Place, onto: str | None) -> tuple[str, ...]:
    """dx = the dy of every window whose maximum was this pixel."""
    part = body.part(index)
    assert isinstance(part.op, ops.MaxPoolGrad)
    dy, winner = part.operands
    inner, tag, names = _begin(body, index, place, part.op.window)
    kernel = body.kernel
    kernel.write(f"acc{tag} = {onto or place.zeros}")
    with kernel.block(f"for tap{tag} in range(R{tag} * S{tag}):"):
        kernel.write(instantiate(TAP, tag, names))
        value, index_tile = body.value(dy, inner, "dy"), body.raw(winner, inner, "index")
        kernel.write(f"acc{tag} += tl.where({inner.mask} & ({index_tile}.to(tl.int32) == tap{tag}), {value}, 0.0)")
    return (f"acc{tag}",)


def sum_or_avg_pool_grad(body: Body, index: int, place: Place, onto: str | None) -> tuple[str, ...]:
    """dx = the sum of dy, or of dy / divisor, over this pixel's windows."""
    part = body.part(index)
    assert isinstance(part.op, ops.SumPoolGrad | ops.AvgPoolGrad)
    inner, tag, names = _begin(body, index, place, part.op.window)
    kernel = body.kernel
    if isinstance(part.op, ops.AvgPoolGrad):
        declare_counted(kernel, part.op.window, part.op.count_pad, tag)
        shape = part.op.image
        kernel.counts(**{f"H{tag}": shape[0], f"W{tag}": shape[1]})
    kernel.write(f"acc{tag} = {onto or place.zeros}")
    with kernel.block(f"for tap{tag} in range(R{tag} * S{tag}):"):
        kernel.write(instantiate(TAP, tag, names))
        value = _value(body, part.operands[0], inner)
        if isinstance(part.op, ops.AvgPoolGrad):
            kernel.write(instantiate(DIVISOR, tag, inner.names()))
            value = f"{value} / divisor{tag}[:, None]"
        kernel.write(f"acc{tag} += {value}")
    return (f"acc{tag}",)


def depthwise_dgrad(body: Body, index: int, place: Place, onto: str | None) -> tuple[str, ...]:
    """dx = the sum over taps, and over the filters of its channel, of dy times the weight."""
    part = body.part(index)
    assert isinstance(part.op, ops.ConvDgrad)
    dy, w = part.operands
    inner, tag, names = _begin(body, index, place, part.op.window)
    kernel, copies = body.kernel, body.types[w].shape[0] // part.op.groups
    names |= {"w": body.pointer(w, "weight"), "filter": place.channel}
    trips = f"R{tag} * S{tag}"
    kernel.write(f"acc{tag} = {onto or place.zeros}")
    if copies > 1:
        kernel.constant(**{f"MULTIPLIER{tag}": copies})
        inner = replace(inner, channel=f"filter{tag}", channels=f"({place.channels} * MULTIPLIER{tag})")
        trips, names["filter"] = f"{trips} * MULTIPLIER{tag}", f"filter{tag}"
    with kernel.block(f"for trip{tag} in range({trips}):"):
        if copies > 1:
            kernel.write(f"tap{tag} = trip{tag} // MULTIPLIER{tag}")
            kernel.write(f"filter{tag} = {place.channel} * MULTIPLIER{tag} + trip{tag} % MULTIPLIER{tag}")
        else:
            kernel.write(f"tap{tag} = trip{tag}")
        kernel.write(instantiate(TAP, tag, names))
        value = _value(body, dy, inner)
        kernel.write(instantiate(FILTER, tag, names | {"value": value}))
    return (f"acc{tag}",)


def global_avg_pool_grad(body: Body, index: int, place: Place, onto: str | None) -> tuple[str, ...]:
    """dx = dy / pixels at every pixel: rows of the image read those of the vector by their image alone."""
    part = body.part(index)
    assert isinstance(part.op, ops.GlobalAvgPoolGrad)
    inner = replace(place, key=body.fresh(), rows=Rows(None), spread=False, stored_if=None, corner=None)
    tag, kernel = body.tag(index), body.kernel
    kernel.constant(**{f"PIXELS{tag}": part.op.image[0] * part.op.image[1]})
    value = body.value(part.operands[0], inner, "dy")
    kernel.write(f"share{tag}{place.key} = {f'{onto} + ' if onto else ''}{value} / (PIXELS{tag} * 1.0)")
    return (f"share{tag}{place.key}",)
