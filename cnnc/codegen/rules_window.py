"""Windows of pixels, each channel for itself: pools and depthwise convolutions. Sums are in float32."""

from __future__ import annotations

from dataclasses import replace

from cnnc.codegen.body import Body
from cnnc.codegen.kernel import Kernel
from cnnc.codegen.place import Place
from cnnc.codegen.rows import Rows
from cnnc.codegen.rules_conv import declare_window
from cnnc.codegen.template import instantiate
from cnnc.ir import ops
from cnnc.ir.window import Window

UNROLLED = 25  # taps written out where the window stands in a product's loop: only innermost loops are pipelined

TAP = """
h = p * STRIDE_H - PAD_TOP + tap // S * DILATION_H
w_ = q * STRIDE_W - PAD_LEFT + tap % S * DILATION_W
inside = live & (h >= 0) & (h < H) & (w_ >= 0) & (w_ < W)
tap_live = inside[:, None] & channel_live[None, :]
"""

# The first maximum wins, and the first NaN over everything.
MAX = """
wins = tap_live & ((index < 0) | (value > best) | ((value != value) & (best == best)))
best = tl.where(wins, value, best)
index = tl.where(wins, tap, index)
"""

MAX_ALONE = """
wins = tap_live & ((value > best) | (value != value))
best = tl.where(wins, value, best)
"""

# The mean's divisor: taps inside the image, or inside its declared padding where that is counted.
DIVISOR = """
down_count = window_count(p * STRIDE_H - PAD_TOP, LOW_H, H + HIGH_H, R, DILATION_H)
right_count = window_count(q * STRIDE_W - PAD_LEFT, LOW_W, W + HIGH_W, S, DILATION_W)
divisor = tl.maximum(down_count * right_count, 1).to(tl.float32)
"""

DEPTHWISE = """
tap_weight = tl.load(w + channel.to(tl.int64) * (R * S) + tap, mask=channel_live, other=0.0).to(tl.float32)
total += value * tap_weight[None, :]
"""


def _begin(body: Body, index: int, place: Place, window: Window) -> tuple[str, Place, str]:
    """Declare the window; gives the loop's head, the place of a tap, and the tag."""
    tag, kernel = body.tag(index), body.kernel
    image = body.types[body.part(index).operands[0]].shape
    kernel.counts(**{f"H{tag}": image[0], f"W{tag}": image[1]})
    declare_window(kernel, window, tag)
    inner = Place(
        key=body.fresh(),
        rows=Rows((image[0], image[1]), f"h{tag}", f"w_{tag}", f"H{tag}", f"W{tag}"),
        live=f"inside{tag}",
        channel=place.channel,
        channel_live=place.channel_live,
        mask=f"tap_live{tag}",
        channels=place.channels,
        height=place.height,
        width=place.width,
    )
    # In a product's loop the window is written out: only the innermost loop is pipelined.
    loop = "tl.static_range" if place.key and window.taps <= UNROLLED else "range"
    return f"for tap{tag} in {loop}(R{tag} * S{tag}):", inner, tag


def max_pool(body: Body, index: int, place: Place, onto: str | None) -> tuple[str, ...]:
    """Maximum of each window, and the tap where it was found if anyone asks."""
    part = body.part(index)
    assert isinstance(part.op, ops.MaxPool)
    head, inner, tag = _begin(body, index, place, part.op.window)
    kernel, names = body.kernel, place.names()
    kernel.write(f'best{tag} = tl.full(({place.height}, {place.width}), float("-inf"), tl.float32)')
    indexed = body.wanted(body.number(index, 1))
    if indexed:
        kernel.write(f"index{tag} = tl.full(({place.height}, {place.width}), -1, tl.int32)")
    with kernel.block(head):
        kernel.write(instantiate(TAP, tag, names | {"tap": f"tap{tag}"}))
        value = body.value(part.operands[0], inner)
        step = MAX if indexed else MAX_ALONE
        kernel.write(instantiate(step, tag, names | _inner_names(tag) | {"value": value}))
    if onto:
        kernel.write(f"best{tag} = {onto} + best{tag}")
    return (f"best{tag}", f"index{tag}") if indexed else (f"best{tag}",)


def sum_or_avg_pool(body: Body, index: int, place: Place, onto: str | None) -> tuple[str, ...]:
    """Sum or mean of each window."""
    part = body.part(index)
    assert isinstance(part.op, ops.SumPool | ops.AvgPool)
    head, inner, tag = _begin(body, index, place, part.op.window)
    kernel, names = body.kernel, place.names()
    kernel.write(f"total{tag} = {place.zeros}")
    with kernel.block(head):
        kernel.write(instantiate(TAP, tag, names | {"tap": f"tap{tag}"}))
        kernel.write(f"total{tag} += {body.masked(part.operands[0], inner)}")
    total = f"total{tag}"
    if isinstance(part.op, ops.AvgPool):
        declare_counted(kernel, part.op.window, part.op.count_pad, tag)
        kernel.write(instantiate(DIVISOR, tag, names | {"window_count": "window_count"}))
        kernel.write(f"average{tag} = total{tag} / divisor{tag}[:, None]")
        total = f"average{tag}"
    return _onto(body, total, onto)


def declare_counted(kernel: Kernel, window: Window, count_pad: bool, tag: str = "") -> None:
    """How far beyond the image taps still count towards the mean's divisor."""
    top, bottom, left, right = window.pad if count_pad else (0, 0, 0, 0)
    values = {"LOW_H": -top, "HIGH_H": bottom, "LOW_W": -left, "HIGH_W": right}
    kernel.constant(**{name + tag: value for name, value in values.items()})
    kernel.helpers.append("window_count")


def depthwise(body: Body, index: int, place: Place, onto: str | None) -> tuple[str, ...]:
    """A convolution whose input channels each have filters of their own: filter ``channel`` reads one of them."""
    part = body.part(index)
    assert isinstance(part.op, ops.Conv)
    x, w = part.operands
    head, inner, tag = _begin(body, index, place, part.op.window)
    kernel, names = body.kernel, place.names() | {"w": body.pointer(w, "weight")}
    multiplier = body.types[w].shape[0] // part.op.groups
    inner = _source(body, inner, place, tag, multiplier)
    kernel.write(f"total{tag} = {onto or place.zeros}")
    with kernel.block(head):
        kernel.write(instantiate(TAP, tag, names | {"tap": f"tap{tag}"}))
        value = body.masked(x, inner)
        kernel.write(instantiate(DEPTHWISE, tag, names | _inner_names(tag) | {"value": value}))
    return (f"total{tag}",)


def _source(body: Body, inner: Place, place: Place, tag: str, multiplier: int) -> Place:
    """The tap's place with the input channels of these filters; without a division where each has one."""
    if multiplier == 1:
        return inner
    body.kernel.constant(**{f"MULTIPLIER{tag}": multiplier})
    body.kernel.write(f"source{tag} = {place.channel} // MULTIPLIER{tag}")
    channels = f"({place.channels} // MULTIPLIER{tag})"
    return replace(inner, channel=f"source{tag}", channels=channels)


def global_avg_pool(body: Body, index: int, place: Place, onto: str | None) -> tuple[str, ...]:
    """Mean over all pixels of each image: rows are images."""
    part = body.part(index)
    tag, kernel = body.tag(index), body.kernel
    image = body.types[part.operands[0]].shape
    kernel.counts(**{f"H{tag}": image[0], f"W{tag}": image[1]})
    inner = Place(
        key=body.fresh(),
        rows=Rows((image[0], image[1]), f"h{tag}", f"w_{tag}", f"H{tag}", f"W{tag}"),
        live=place.live,
        channel=place.channel,
        channel_live=place.channel_live,
        mask=place.mask,
        channels=place.channels,
        height=place.height,
        width=place.width,
    )
    kernel.write(f"total{tag} = {place.zeros}")
    with kernel.block(f"for pixel{tag} in range(H{tag} * W{tag}):"):
        # Zeros of the rows' length: every image is at the same pixel.
        kernel.write(f"h{tag} = n * 0 + pixel{tag} // W{tag}\nw_{tag} = n * 0 + pixel{tag} % W{tag}")
        kernel.write(f"total{tag} += {body.value(part.operands[0], inner)}")
    kernel.write(f"average{tag} = total{tag} / (H{tag} * W{tag} * 1.0)")
    return _onto(body, f"average{tag}", onto)


def _inner_names(tag: str) -> dict[str, str]:
    """Variables that one template assigns and the next one reads."""
    return {"tap": f"tap{tag}", "tap_live": f"tap_live{tag}"}


def _onto(body: Body, variable: str, onto: str | None) -> tuple[str, ...]:
    if onto:
        body.kernel.write(f"{variable} = {onto} + {variable}")
    return (variable,)
