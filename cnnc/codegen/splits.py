"""Sums that several programs share: each leaves its part, and the last to finish adds them up in their order."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cnnc.codegen.context import Context
from cnnc.codegen.kernel import Kernel
from cnnc.ir.plan import Buffer

# All of a program's stores are done before it counts itself in.
ARRIVE = """
tl.debug_barrier()
arrived = tl.atomic_add(counters + pid, 1, sem="acq_rel", scope="gpu")
"""
RESET = "tl.store(counters + pid, 0)  # for the next kernel"


@dataclass(frozen=True)
class Share:
    """A program's share of some elements of a sum: the variable that holds it, and their offsets, as text."""

    variable: str
    offsets: str
    mask: str
    shape: str


def store_shares(context: Context, kernel: Kernel, out: Buffer, shares: list[Share]) -> None:
    """Store what ``tile.splits`` programs with the same ``pid`` and each their ``split`` sum up together."""
    splits = context.tile.splits
    for share in shares:
        kernel.write(f"{share.variable}_at = {share.offsets}")
    if splits == 1:
        pointer = kernel.pointer("out", out)
        for share in shares:
            _store(kernel, pointer, share, share.variable)
        return
    kernel.pointer("partial", context.workspace)
    pointer = kernel.pointer("out", out)
    kernel.pointer("counters", context.counters)
    kernel.integers(ELEMENTS=math.prod(out.shape))
    kernel.write("own = partial + split.to(tl.int64) * ELEMENTS")
    for share in shares:
        kernel.write(f"tl.store(own + {share.variable}_at, {share.variable}, mask={share.mask})")
    kernel.write(ARRIVE)
    with kernel.block("if arrived == SPLITS - 1:"):
        for share in shares:
            _join(kernel, share)
            _store(kernel, pointer, share, f"{share.variable}_total")
        kernel.write(RESET)


def _join(kernel: Kernel, share: Share) -> None:
    """Add up the parts of all programs; the order does not depend on who was last."""
    total, source = f"{share.variable}_total", f"{share.variable}_parts"
    kernel.write(f"{total} = tl.full({share.shape}, 0.0, tl.float32)\n{source} = partial + {share.variable}_at")
    with kernel.block("for part in range(SPLITS):"):
        kernel.write(f"{total} += tl.load({source}, mask={share.mask}, other=0.0)\n{source} += ELEMENTS")


def _store(kernel: Kernel, pointer: str, share: Share, variable: str) -> None:
    kernel.write(
        f"tl.store({pointer} + {share.variable}_at, {variable}.to({pointer}.dtype.element_ty), mask={share.mask})"
    )
