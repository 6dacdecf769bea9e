"""Kernels that compute what they read: an op behind chains of element-wise ones."""

from __future__ import annotations

from cnnc.ir import ops
from cnnc.ir.ops import Fused, Op, Part
from cnnc.ir.types import Element, TensorType


def _apply(x: TensorType) -> tuple[list[Op], list[list[TensorType]]]:
    vector = TensorType(x.shape[-1:], False, Element.ACC)
    return [ops.BatchNorm(0.0), ops.Activation("sigmoid")], [[x, vector, vector, vector, vector], []]


def _residual(x: TensorType) -> tuple[list[Op], list[list[TensorType]]]:
    vector = TensorType(x.shape[-1:], False, Element.ACC)
    return [ops.BatchNorm(0.0), ops.Add(), ops.Dropout(0.25, 3)], [[x, vector, vector, vector, vector], [x], []]


def _input_grad(x: TensorType) -> tuple[list[Op], list[list[TensorType]]]:
    vector = TensorType(x.shape[-1:], False, Element.ACC)
    return [ops.BatchNormInputGrad(0.0)], [[x, x, vector, vector, vector, vector, vector]]


PROLOGUES = {"apply": _apply, "residual": _residual, "input_grad": _input_grad}


def with_prologue(
    reader: tuple[Op, tuple[TensorType, ...]],
    kinds: str | tuple[str, ...],
    slots: tuple[int, ...],
    stored: tuple[int, ...] = (),
) -> tuple[Fused, list[TensorType]]:
    """A reader whose operands in ``slots`` are computed on the way; those in ``stored`` leave the kernel, too."""
    op, types = reader
    named = dict(zip(slots, (kinds,) * len(slots) if isinstance(kinds, str) else kinds, strict=True))
    operands: list[TensorType] = []
    chains: list[tuple[list[Op], list[list[int]]]] = []
    own: dict[int, int] = {}

    def number(kind: TensorType) -> int:
        operands.append(kind)
        return len(operands) - 1

    for slot, of in enumerate(types):
        if slot in slots:
            found, read = PROLOGUES[named[slot]](of)
            chains.append((found, [[number(item) for item in items] for items in read]))
        else:
            own[slot] = number(of)
    parts: list[Part] = []
    made = iter(range(len(operands), len(operands) + 100))
    for slot, (found, read) in zip(slots, chains, strict=True):
        for step, (one, others) in enumerate(zip(found, read, strict=True)):
            before = (own[slot],) if step else ()
            parts.append(Part(f"p{slot}.{step}", one, (*before, *others)))
            own[slot] = next(made)
    main = len(parts)
    parts.append(Part("main", op, tuple(own[slot] for slot in range(len(types)))))
    results = [next(made) for _ in op.infer(*types)]
    return Fused(tuple(parts), (*results, *(own[slot] for slot in stored)), main), operands
