"""Ops across the channels of a pixel, on a tile that holds all of them."""

from __future__ import annotations

from cnnc.codegen.body import Body
from cnnc.codegen.place import Place
from cnnc.codegen.template import instantiate
from cnnc.ir import ops

SQUARES = """
squares = tl.where(mask_, x * x, 0.0)
base = squares
"""

# Squares of the channels so many further on; there are none beyond the first and the last.
NEAR = """
near = tl.arange(0, BN) + {shift}
moved = tl.gather(squares, tl.broadcast_to(tl.minimum(tl.maximum(near, 0), BN - 1)[None, :], (BM, BN)), axis=1)
base += tl.where(((near >= 0) & (near < BN))[None, :], moved, 0.0)
"""

ROOTS = "1.0 / (tl.sqrt_rn(base) * tl.sqrt_rn(tl.sqrt_rn(base)))"  # base^-3/4, of roots that are rounded exactly
POWER = "tl.exp(-BETA * tl.log(base))"


def lrn(body: Body, index: int, place: Place, onto: str | None) -> tuple[str, ...]:
    """Local response normalisation of a value that the kernel has just made: neighbours come from its own tile.

    Raises:
        ValueError: the tile does not hold all channels of its pixels (a bug in the choice of tiles).
    """
    part = body.part(index)
    assert isinstance(part.op, ops.Lrn)
    channels, tile = body.types[part.operands[0]].shape[-1], body.context.tile
    if place.key or tile.n < channels:
        raise ValueError(f"a tile of {tile.n} channels can't normalise {channels}")
    tag, op, kernel = f"_{index}", part.op, body.kernel
    kernel.constant(**{f"ALPHA{tag}": op.alpha, f"K{tag}": op.k})
    if op.beta != 0.75:
        kernel.constant(**{f"BETA{tag}": op.beta})
    names = {"mask_": place.mask, "x": body.value(part.operands[0], place)}
    kernel.write(instantiate(SQUARES, tag, names))
    for tap in range(op.n):
        if tap != op.n // 2:
            kernel.write(instantiate(NEAR.format(shift=tap - op.n // 2), tag, {}))
    power = ROOTS if op.beta == 0.75 else POWER
    kernel.write(instantiate(f"base = K + ALPHA * base\npower = {power}", tag, {}))
    text = f"{names['x']} * power{tag}"
    kernel.write(f"normalised{tag} = {f'{onto} + ' if onto else ''}{text}")
    return (f"normalised{tag}",)
