"""Convolution forward and with respect to its input, as implicit matrix products.

Rows are output pixels times images, columns channels of the result; one flattened loop runs over taps and
channel blocks. Where a tap has fewer channels than a block holds, the block *gathers* across taps: KRSC
weights are contiguous in (tap, channel), so that only the image needs coordinates per element.
"""

from __future__ import annotations

from dataclasses import replace

from cnnc.codegen.body import Body
from cnnc.codegen.kernel import Kernel
from cnnc.codegen.place import Place
from cnnc.codegen.products import Product
from cnnc.codegen.rows import Rows
from cnnc.codegen.template import instantiate
from cnnc.ir import ops
from cnnc.ir.window import Window

ASSUME = "tl.assume(trips > 0)  # a loop that might not run would serialise the matrix instructions\n"

FPROP_BEGIN = """
top = p * STRIDE_H - PAD_TOP
left = q * STRIDE_W - PAD_LEFT
"""

FPROP_TAPS = f"""
w_column = channel.to(tl.int64) * (R * S * C)
blocks = (C + BK - 1) // BK
trips = R * S * blocks
{ASSUME}"""

FPROP_TAP = """
tap = trip // blocks
c = trip % blocks * BK + tl.arange(0, BK)
h = top + tap // S * DILATION_H
w_ = left + tap % S * DILATION_W
c_live = c < C
inside = live & (h >= 0) & (h < H) & (w_ >= 0) & (w_ < W)
a_mask = inside[:, None] & c_live[None, :]
"""

FPROP_WEIGHT = """
w_at = w + w_column[None, :] + (tap * C + c)[:, None]
b = tl.load(w_at, mask=c_live[:, None] & channel_live[None, :], other=0.0).to(a.dtype)
"""

FPROP_GATHER = f"""
depth = R * S * C
w_column = channel.to(tl.int64) * depth
trips = (depth + BK - 1) // BK
{ASSUME}"""

FPROP_SPREAD = """
k = trip * BK + tl.arange(0, BK)
tap = k // C
c = k % C
h = top[:, None] + (tap // S * DILATION_H)[None, :]
w_ = left[:, None] + (tap % S * DILATION_W)[None, :]
c_live = k < depth
a_mask = live[:, None] & c_live[None, :] & (h >= 0) & (h < H) & (w_ >= 0) & (w_ < W)
"""

FPROP_SPREAD_WEIGHT = """
w_at = w + w_column[None, :] + k[:, None]
b = tl.load(w_at, mask=c_live[:, None] & channel_live[None, :], other=0.0).to(a.dtype)
"""

# Without phases a program looks at every tap, whether it reaches the pixel or not.
ALL_TAPS = """
first_r = 0
first_s = 0
taps_r = R
taps_s = S
"""

PHASE_TAPS = ("first_r", "first_s", "taps_r", "taps_s")  # where a program's pixels are all of one phase

DGRAD_TAPS = f"""
blocks = (K + BK - 1) // BK
trips = taps_r * taps_s * blocks
{ASSUME}"""

DGRAD_TAP = """
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
k_live = k < tl.where(r < R, tl.where(s < S, K, 0), 0)  # a phase without taps runs one empty step
a_mask = inside[:, None] & k_live[None, :]
"""

DGRAD_WEIGHT = """
w_row = (FIRST_K + k).to(tl.int64) * (R * S * CHANNELS) + (r * S + s) * CHANNELS
w_at = w + w_row[:, None] + column[None, :]
b = tl.load(w_at, mask=k_live[:, None] & channel_live[None, :], other=0.0).to(a.dtype)
"""

DGRAD_GATHER = f"""
depth = R * S * K
trips = (depth + BK - 1) // BK
{ASSUME}"""

DGRAD_SPREAD = """
j = trip * BK + tl.arange(0, BK)
tap = j // K
k = j % K
down = (h + PAD_TOP)[:, None] - (tap // S * DILATION_H)[None, :]
right = (w_ + PAD_LEFT)[:, None] - (tap % S * DILATION_W)[None, :]
p = down // STRIDE_H
q = right // STRIDE_W
k_live = j < depth
a_mask = live[:, None] & k_live[None, :] & (down >= 0) & (right >= 0) & (p < P) & (q < Q)
a_mask = a_mask & (down % STRIDE_H == 0) & (right % STRIDE_W == 0)
"""

DGRAD_SPREAD_WEIGHT = """
w_row = (FIRST_K + k).to(tl.int64) * (R * S * CHANNELS) + tap * CHANNELS
w_at = w + w_row[:, None] + column[None, :]
b = tl.load(w_at, mask=k_live[:, None] & channel_live[None, :], other=0.0).to(a.dtype)
"""


def declare_window(kernel: Kernel, window: Window, tag: str = "") -> None:
    """Add a window's arithmetic as compile-time constants."""
    values = {
        "R": window.kernel[0],
        "S": window.kernel[1],
        "STRIDE_H": window.stride[0],
        "STRIDE_W": window.stride[1],
        "PAD_TOP": window.pad[0],
        "PAD_LEFT": window.pad[2],
        "DILATION_H": window.dilation[0],
        "DILATION_W": window.dilation[1],
    }
    kernel.constant(**{name + tag: value for name, value in values.items()})


def conv(body: Body, index: int, place: Place, onto: str | None) -> tuple[str, ...]:
    """Conv forward: ``[P*Q*N, taps*C] x [taps*C, K]`` per group."""
    part = body.part(index)
    op, (x, w) = part.op, part.operands
    assert isinstance(op, ops.Conv)
    tag, kernel = body.tag(index), body.kernel
    shape = body.types[x].shape
    kernel.counts(**{f"H{tag}": shape[0], f"W{tag}": shape[1]})
    kernel.integers(**{f"C{tag}": body.types[w].shape[3]})
    declare_window(kernel, op.window, tag)
    names = place.names() | {"w": body.pointer(w, "w")}
    spread = body.context.gathers(index)
    kernel.write(instantiate(FPROP_BEGIN + (FPROP_GATHER if spread else FPROP_TAPS).lstrip("\n"), tag, names))
    rows = Rows((shape[0], shape[1]), f"h{tag}", f"w_{tag}", f"H{tag}", f"W{tag}")
    inner = _inner(body, place, rows, tag, "c", "c_live", f"(C{tag} * {op.groups})", spread)
    weight = FPROP_SPREAD_WEIGHT if spread else FPROP_WEIGHT
    return _loop(body, inner, x, "x", op.groups, FPROP_SPREAD if spread else FPROP_TAP, weight, tag, names, onto, place)


def conv_dgrad(body: Body, index: int, place: Place, onto: str | None) -> tuple[str, ...]:
    """Conv with respect to its input: every dx gathers the dy that its pixel reached."""
    part = body.part(index)
    op, (dy, w) = part.op, part.operands
    assert isinstance(op, ops.ConvDgrad)
    tag, kernel = body.tag(index), body.kernel
    image = body.types[dy].shape
    kernel.counts(**{f"P{tag}": image[0], f"Q{tag}": image[1]})
    kernel.integers(**{f"K{tag}": body.types[w].shape[0] // op.groups})
    declare_window(kernel, op.window, tag)
    grouped = op.groups > 1
    names = place.names("h", "w_") | {
        "w": body.pointer(w, "w"),
        "column": "column" if grouped else place.channel,
        "CHANNELS": "COLUMNS" if grouped else place.channels,
        "FIRST_K": f"group * K{tag}" if grouped else "0",
    }
    spread = body.context.gathers(index)
    if spread:
        kernel.write(instantiate(DGRAD_GATHER, tag, names))
    else:
        phased = body.context.phased and op.window == getattr(body.context.anchor, "window", None)
        stride = op.window.stride if phased else (1, 1)
        kernel.constant(**{f"STEP_R{tag}": stride[0], f"STEP_S{tag}": stride[1]})
        # A second gradient of the same strides has the same taps at the pixels of a phase.
        names |= {name: name for name in PHASE_TAPS} if phased else {}
        taps = instantiate(("" if phased else ALL_TAPS) + DGRAD_TAPS.lstrip("\n"), tag, names)
        kernel.write(taps)
    rows = Rows((image[0], image[1]), f"p{tag}", f"q{tag}", f"P{tag}", f"Q{tag}")
    inner = _inner(body, place, rows, tag, "k", "k_live", f"(K{tag} * {op.groups})", spread)
    weight = DGRAD_SPREAD_WEIGHT if spread else DGRAD_WEIGHT
    step = DGRAD_SPREAD if spread else DGRAD_TAP
    return _loop(body, inner, dy, "dy", op.groups, step, weight, tag, names, onto, place)


def _inner(
    body: Body, place: Place, rows: Rows, tag: str, channel: str, live: str, channels: str, spread: bool
) -> Place:
    """The place of the left factor in the loop."""
    return Place(
        key=body.fresh(),
        rows=rows,
        live=place.live if spread else f"inside{tag}",
        channel=channel + tag,
        channel_live=live + tag,
        mask=f"a_mask{tag}",
        channels=channels,
        height=place.height,
        width="BK",
        spread=spread,
    )


def _loop(
    body: Body,
    inner: Place,
    left: int,
    name: str,
    groups: int,
    step: str,
    weight: str,
    tag: str,
    names: dict[str, str],
    onto: str | None,
    place: Place,
) -> tuple[str, ...]:
    """The loop over taps and channels; its first lines are ``step``, its last add a product to the accumulator."""
    kernel = body.kernel
    product = Product(body, left, place, tag, onto)
    product.begin()
    with kernel.block(f"for trip{tag} in range(trips{tag}):"):
        kernel.write(instantiate(step, tag, names))
        if groups > 1:
            depth = "C" if name == "x" else "K"
            kernel.write(f"source{tag} = group * {depth}{tag} + {inner.channel}")
            inner = replace(inner, channel=f"source{tag}")
        factor = body.factor(left, inner, name)
        kernel.write(instantiate(weight, tag, names | {"a": factor}))
        product.step(names, factor)
    return product.end()
