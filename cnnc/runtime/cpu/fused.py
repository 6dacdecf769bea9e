"""A fused step: its anchor, then the epilogue's parts in place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnc.ir import ops
from cnnc.ir.types import Element, TensorType
from cnnc.runtime.arrays import Array
from cnnc.runtime.cpu.operand import Operand, Results, Run, Scratch, operand
from cnnc.runtime.cpu.product import Work, in_turn
from cnnc.runtime.cpu.table import BIND, IN_PLACE
from cnnc.runtime.scalars import Scalars

INTEGERS: dict[Element, np.dtype[Any]] = {Element.LABEL: np.dtype(np.int32), Element.INDEX: np.dtype(np.uint8)}


@dataclass
class _Body:
    """The values of a fused body by number: types, which part makes them, and where they lie."""

    types: list[TensorType]
    makers: list[tuple[ops.Op, tuple[int, ...], range]]  # op, operands, and the outputs' numbers
    places: dict[int, Array]


def bind_fused(
    op: ops.Fused, types: Sequence[TensorType], operands: Sequence[Operand], results: Results, scratch: Scratch, n: int
) -> Run:
    """What runs all parts; ``types`` are the operands' and ``n`` the batch.

    A value inside the body lies where the result that it becomes will lie, else in scratch memory.
    """
    body = _body(op, types)
    copies = _place_results(body, op.results, results, len(operands))
    _share_places(body, len(operands))
    real = next(one.array.dtype for one in operands if one.array.dtype.kind == "f")
    for number in sorted({i for _, read, _ in body.makers for i in read} - body.places.keys()):
        if number >= len(operands):
            kind = body.types[number]
            shape = (n, *kind.shape) if kind.batched else kind.shape
            body.places[number] = scratch.array(shape, INTEGERS.get(kind.element, real))
    values = dict(enumerate(operands))
    values.update({number: operand(array) for number, array in body.places.items()})
    runs: list[Run] = []
    for part, read, made in body.makers:
        outputs = [body.places.get(number) for number in made]
        if any(output is not None for output in outputs):
            with scratch.shared():  # parts run in turn
                runs.append(BIND[type(part)](part, [values[i] for i in read], outputs, scratch))
    runs.append(in_turn([_copy(values[number].array, target) for number, target in copies]))

    def run(scalars: Scalars) -> None:
        for one in runs:
            one(scalars)

    return run


def _body(op: ops.Fused, types: Sequence[TensorType]) -> _Body:
    values = list(types)
    makers = []
    for part in op.parts:
        made = part.op.infer(*(values[i] for i in part.operands))
        makers.append((part.op, part.operands, range(len(values), len(values) + len(made))))
        values.extend(made)
    return _Body(values, makers, {})


def _place_results(body: _Body, numbers: Sequence[int], results: Results, given: int) -> list[tuple[int, Array]]:
    """Put each value that leaves where it is wanted; those already elsewhere are copied at the end."""
    copies = []
    for number, target in zip(numbers, results, strict=True):
        if target is None:
            continue
        if number < given or number in body.places:
            copies.append((number, target))
        else:
            body.places[number] = target
    return copies


def _share_places(body: _Body, given: int) -> None:
    """Let a part write over the operand that it is the only reader of, from the last part to the first."""
    readers = Counter(i for _, read, _ in body.makers for i in set(read))
    for part, read, made in reversed(body.makers):
        target = body.places.get(made[0])
        if target is None:
            continue
        for slot in IN_PLACE.get(type(part), ()):
            number = read[slot]
            alike = body.types[number].shape == body.types[made[0]].shape
            if number >= given and number not in body.places and readers[number] == 1 and alike:
                body.places[number] = target
                break


def _copy(source: Array, target: Array) -> Work:
    def run() -> None:
        np.copyto(target, source)

    return run
