"""Steps over whole parameter arenas, in place and a cache-sized piece at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from cnnc.ir import ops
from cnnc.runtime.cpu.operand import Operand, Results, Run, Scratch, given
from cnnc.runtime.scalars import Scalars

CHUNK = 1 << 15  # elements


def bind_sgd_update(op: ops.SgdUpdate, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    """Results may be the operands themselves; every piece is read before it is written."""
    p, g, v = given(operands)
    new_p, new_v = results
    assert new_p is not None
    assert new_v is not None
    # Cut at the ends of the decayed and of the clipped parameters, so that each piece is one or the other.
    ends = (min(edge, p.size) for edge in (op.decayed, *op.clipped))
    edges = sorted({0, *range(0, p.size, CHUNK), *ends, p.size})
    pieces = [slice(low, high) for low, high in pairwise(edges)]
    spare = scratch.array((CHUNK,), p.dtype)

    def run(scalars: Scalars) -> None:
        for at in pieces:
            gradient = spare[: at.stop - at.start]
            np.divide(g[at], scalars.loss_scale, out=gradient)
            velocity = new_v[at]
            np.multiply(v[at], scalars.momentum, out=velocity)
            np.add(velocity, gradient, out=velocity)
            if scalars.weight_decay and at.start < op.decayed:
                np.multiply(p[at], scalars.weight_decay, out=gradient)
                np.add(velocity, gradient, out=velocity)
            np.multiply(velocity, scalars.lr, out=gradient)
            np.subtract(p[at], gradient, out=new_p[at])
            if op.clipped[0] <= at.start < op.clipped[1]:
                np.clip(new_p[at], -1, 1, out=new_p[at])

    return run


def bind_cast_arena(op: ops.CastArena, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    """A copy; the executor rounds what it stores to the buffer's dtype."""
    (p,), copy = given(operands), results[0]
    assert copy is not None

    def run(scalars: Scalars) -> None:
        np.copyto(copy, p)

    return run
