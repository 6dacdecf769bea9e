"""Several ops as one kernel."""

from __future__ import annotations

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

    The first part is the anchor (the conv, product or pool); the others are its epilogue.
    """

    parts: tuple[Part, ...]
    results: tuple[int, ...]

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        values = list(operands)
        for part in self.parts:
            values.extend(part.op.infer(*(values[i] for i in part.operands)))
        return tuple(values[i] for i in self.results)

    @property
    def anchor(self) -> Op:
        return self.parts[0].op

    @property
    def name(self) -> str:
        return "+".join(part.op.name for part in self.parts)

    def attributes(self) -> str:
        body = "; ".join(
            f"{part.op.name}({','.join(map(str, part.operands))}) {part.op.attributes()}".rstrip()
            for part in self.parts
        )
        return f"{{{body}}} -> {','.join(map(str, self.results))}"
