"""Several ops as one kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cnnc.ir.ops.base import Op
from cnnc.ir.types import TensorType


@dataclass(frozen=True)
class Part:
    """One op of a fused body.

    ``operands`` number the values of the body: first the fused node's own operands, then the parts'
    outputs in order (a part with two outputs takes two numbers).
    """

    name: str  # the node it came from
    op: Op
    operands: tuple[int, ...]
    layer: str = ""


@dataclass(frozen=True)
class Fused(Op):
    """A body of parts run as one kernel; ``results`` are the numbers of the values that leave it.

    Parts stand in topological order. ``main`` is the place of the one that shapes the kernel (the product, the
    pool); those before it are its prologue, computed as their values are needed, those behind it its epilogue.
    """

    parts: tuple[Part, ...]
    results: tuple[int, ...]
    main: int = 0

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        values = self.value_types(operands)
        return tuple(values[i] for i in self.results)

    def value_types(self, operands: Sequence[TensorType]) -> tuple[TensorType, ...]:
        """Types of all values of the body by number, the operands first."""
        values = list(operands)
        for part in self.parts:
            values.extend(part.op.infer(*(values[i] for i in part.operands)))
        return tuple(values)

    @property
    def anchor(self) -> Op:
        return self.parts[self.main].op

    @property
    def name(self) -> str:
        return "+".join(part.op.name for part in self.parts)

    def attributes(self) -> str:
        body = "; ".join(
            f"{part.op.name}({','.join(map(str, part.operands))}) {part.op.attributes()}".rstrip()
            for part in self.parts
        )
        main = f" main={self.main}" if self.main else ""
        return f"{{{body}}} -> {','.join(map(str, self.results))}{main}"
