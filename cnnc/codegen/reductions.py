"""Sums over the rows of a kernel's tiles, one per channel: batch-norm statistics and gradients, bias gradients.

Each program sums the rows that it walks over. Where several programs share a channel, each leaves a partial result and
the last one to finish joins them in their order, so that the result does not depend on the order of programs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cnnc.codegen.body import Body
from cnnc.codegen.launch import Pointer
from cnnc.codegen.place import Place
from cnnc.codegen.template import instantiate
from cnnc.ir import ops
from cnnc.ir.ops import Op

# Chan, Golub and LeVeque 1983: join the mean and the sum of squared deviations of two sets.
STATS_STEP = """
tile_mean = tl.sum(tl.where(mask_, x, 0.0), axis=0) / count
off = tl.where(mask_, x - tile_mean[None, :], 0.0)
delta = tile_mean - mean
joined = seen + count
spread += tl.sum(off * off, axis=0) + delta * delta * (seen * count / joined)
mean += delta * (count / joined)
seen += count
"""

# The same for a block of sets at a time, their own mean first. A set may be empty, and so may the block's rest.
STATS_JOIN = """
block_seen = tl.sum(part_seen, axis=0)
block_mean = tl.sum(part_seen * part_mean, axis=0) / tl.maximum(block_seen, 1.0)
off = part_mean - block_mean[None, :]
delta = block_mean - mean
joined = tl.maximum(seen + block_seen, 1.0)
spread += tl.sum(part_spread + part_seen * off * off, axis=0) + delta * delta * (seen * block_seen / joined)
mean += delta * (block_seen / joined)
seen += block_seen
"""

REDUCE_STEP = """
inverse = 1.0 / tl.sqrt_rn(var + EPS)
xhat = (x - centre) * inverse
dgamma += tl.sum(tl.where(mask_, dy * xhat, 0.0), axis=0)
dbeta += tl.sum(tl.where(mask_, dy, 0.0), axis=0)
"""

SUM_STEP = "acc += tl.sum(tl.where(mask_, x, 0.0), axis=0)"


JOINED = 32  # partial results that the last program loads at once


@dataclass(frozen=True)
class Reduction:
    """``sums`` are its accumulators, ``step`` adds a tile to them, ``join`` a block of programs' sums ``part_...``.

    ``operands`` name the part's operands in ``step``, where ``count`` is how many of the tile's rows exist; ``results``
    are expressions of the sums, by output slot.
    """

    sums: tuple[str, ...]
    operands: tuple[str, ...]
    step: str
    join: str
    results: tuple[str, ...]


REDUCTIONS: dict[type[Op], Reduction] = {
    ops.BatchNormStats: Reduction(
        ("mean", "spread", "seen"), ("x",), STATS_STEP, STATS_JOIN, ("mean", "spread / tl.maximum(seen, 1.0)")
    ),
    ops.BatchNormReduce: Reduction(
        ("dgamma", "dbeta"),
        ("dy", "x", "centre", "var"),
        REDUCE_STEP,
        "dgamma += tl.sum(part_dgamma, axis=0)\ndbeta += tl.sum(part_dbeta, axis=0)",
        ("dgamma", "dbeta"),
    ),
    ops.ChannelSum: Reduction(("acc",), ("x",), SUM_STEP, "acc += tl.sum(part_acc, axis=0)", ("acc",)),
}


@dataclass
class Sums:
    """The reductions of one kernel: where their text goes, and what leaves it."""

    body: Body
    indices: tuple[int, ...]
    channels: str  # how many there are, as text
    _rounded: dict[int, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Channel vectors that one program leaves as its partial result."""
        return sum(len(self._of(index).sums) for index in self.indices)

    def begin(self) -> None:
        """Zero the accumulators."""
        for name in self._names():
            self.body.kernel.write(f"{name} = tl.full((BN,), 0.0, tl.float32)")

    def step(self, place: Place) -> None:
        """Add a tile to every sum."""
        for index in self.indices:
            part, reduction = self.body.part(index), self._of(index)
            names = {"mask_": place.mask, "count": "live_rows"}
            for name, number in zip(reduction.operands, part.operands, strict=True):
                names[name] = self._summand(number, place, _POINTERS.get(name, name))
            if isinstance(part.op, ops.BatchNormReduce):
                self.body.kernel.constant(**{f"EPS{self._tag(index)}": part.op.eps})
            self.body.kernel.write(instantiate(reduction.step, self._tag(index), names))

    def _summand(self, number: int, place: Place, name: str) -> str:
        """A value as other kernels would read it: rounded, where it leaves this one."""
        value, body = self.body.value(number, place, name), self.body
        if number not in body.context.results:
            return value
        buffer = body.context.outputs[body.context.results.index(number)]
        if buffer is None:
            return value
        if number not in self._rounded:
            pointer = next(name for name, at in body.kernel.pointers.items() if at == Pointer(buffer.id))
            self._rounded[number] = f"{value}_stored"
            body.kernel.write(f"{value}_stored = {value}.to({pointer}.dtype.element_ty).to(tl.float32)")
        return self._rounded[number]

    def leave(self, slot: str) -> None:
        """Store the sums as partial result number ``slot``."""
        for place, name in enumerate(self._names()):
            at = f"partial + ({slot} * {self.count} + {place}) * {self.channels} + channel"
            self.body.kernel.write(f"tl.store({at}, {name}, mask=channel_live)")

    def join(self, programs: str) -> None:
        """Add up the partial results of all programs, in order."""
        self.begin()
        kernel = self.body.kernel
        kernel.constant(JOINED=JOINED)
        with kernel.block(f"for first in range(0, {programs}, JOINED):"):
            kernel.write(
                f"part = first + tl.arange(0, JOINED)\n"
                f"part_live = (part < {programs})[:, None] & channel_live[None, :]\n"
                f"part_at = partial + (part * {self.count})[:, None] * {self.channels} + channel[None, :]"
            )
            for place, name in enumerate(self._names()):
                at = f"part_at + {place} * {self.channels}" if place else "part_at"
                kernel.write(f"part_{name} = tl.load({at}, mask=part_live, other=0.0)")
            for index in self.indices:
                kernel.write(instantiate(self._of(index).join, self._tag(index), {}))

    def results(self) -> dict[int, str]:
        """Expressions of the reductions' values, by number."""
        found = {}
        for index in self.indices:
            for slot, text in enumerate(self._of(index).results):
                found[self.body.number(index, slot)] = instantiate(text, self._tag(index), {})
        return found

    def _of(self, index: int) -> Reduction:
        return REDUCTIONS[type(self.body.part(index).op)]

    def _tag(self, index: int) -> str:
        return f"_{index}" if index else ""

    def _names(self) -> list[str]:
        return [name + self._tag(index) for index in self.indices for name in self._of(index).sums]


_POINTERS: Mapping[str, str] = {"centre": "mean"}  # of operands whose name in the text is a sum's
