"""Matrix products over the last axis: fully connected layers and 1x1 convolutions, forward and backward."""

from __future__ import annotations

from cnnc.codegen.body import Body
from cnnc.codegen.place import Place
from cnnc.codegen.products import Product
from cnnc.codegen.template import instantiate
from cnnc.ir import ops

BEGIN = """
trips = (DEPTH + BK - 1) // BK
tl.assume(trips > 0)  # a loop that might not run would serialise the matrix instructions
"""

STEP = """
k = trip * BK + tl.arange(0, BK)
k_live = k < DEPTH
a_mask = live[:, None] & k_live[None, :]
"""

# The weight of depth k (down) and channel (across).
FORWARD = "w_at = w + (channel.to(tl.int64) * DEPTH)[None, :] + k[:, None]"
BACKWARD = "w_at = w + (k.to(tl.int64) * CHANNELS)[:, None] + channel[None, :]"

WEIGHT = "b = tl.load(w_at, mask=k_live[:, None] & channel_live[None, :], other=0.0).to(a.dtype)"


def linear(body: Body, index: int, place: Place, onto: str | None) -> tuple[str, ...]:
    """``x [rows, C]`` times ``w [K, C]`` transposed, or ``dy [rows, K]`` times ``w``."""
    part = body.part(index)
    backward = isinstance(part.op, ops.LinearDgrad)
    left = "dy" if backward else "x"
    x, w = part.operands
    tag, kernel = body.tag(index), body.kernel
    depth = body.types[x].shape[-1]
    kernel.integers(**{f"DEPTH{tag}": depth})
    names = place.names() | {"w": body.pointer(w, "w"), "CHANNELS": place.channels}
    inner = Place(
        key=body.fresh(),
        rows=place.rows,
        live=place.live,
        channel=f"k{tag}",
        channel_live=f"k_live{tag}",
        mask=f"a_mask{tag}",
        channels=f"DEPTH{tag}",
        height=place.height,
        width="BK",
        stored_if=None if place.key else body.context.first_column,
    )
    body.prepare(x, inner, left)
    kernel.write(instantiate(BEGIN, tag, names))
    product = Product(body, x, place, tag, onto)
    product.begin()
    with kernel.block(f"for trip{tag} in range(trips{tag}):"):
        kernel.write(instantiate(STEP, tag, names))
        factor = body.factor(x, inner, left)
        kernel.write(instantiate(BACKWARD if backward else FORWARD, tag, names))
        kernel.write(instantiate(WEIGHT, tag, names | {"a": factor}))
        product.step(names, factor)
    return product.end()
