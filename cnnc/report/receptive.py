"""Receptive fields: how many input pixels one element of each value sees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value
from cnnc.ir.window import Pair

Numbers = tuple[Fraction, Fraction]
ONE = (Fraction(1), Fraction(1))


@dataclass(frozen=True)
class Field:
    """Input pixels along height and width: ``size`` that one element sees, ``step`` between neighbours."""

    size: Numbers = ONE
    step: Numbers = ONE

    @property
    def pixels(self) -> Pair:
        return math.ceil(self.size[0]), math.ceil(self.size[1])


def receptive_fields(graph: Graph) -> dict[Value, Field]:
    """The field of every value that is an image of the input's pixels; vectors, which see all of it, have none.

    A window of extent e at step j adds (e - 1) j and multiplies the step by its stride. Where paths meet, the
    largest counts. Padding and the image's border are left aside, as is usual: a field can be larger than the image.
    """
    fields: dict[Value, Field] = {}
    for node in graph.walk():
        if isinstance(node.op, ops.Input):
            found = Field() if len(node.op.shape) == 3 else None
        else:
            seen = [fields[value] for value in node.operands if value in fields]
            found = _after(node, seen) if seen and len(node.types[0].shape) == 3 else None
        if found is not None:
            fields.update((node.value(index), found) for index in range(len(node.types)))
    return fields


def _after(node: Node, seen: list[Field]) -> Field:
    merged = Field(_largest([field.size for field in seen]), _largest([field.step for field in seen]))
    op = node.op
    if isinstance(op, ops.Conv | ops.MaxPool | ops.AvgPool | ops.SumPool):
        return _window(merged, op.window.extent, op.window.stride)
    if isinstance(op, ops.ConvDgrad):
        # A pixel lies under every stride-th tap of a kernel turned round.
        taps = [-(-extent // stride) for extent, stride in zip(op.window.extent, op.window.stride, strict=True)]
        return _finer(_window(merged, (taps[0], taps[1]), (1, 1)), op.window.stride)
    if isinstance(op, ops.Upsample):
        neighbours = 2 if op.mode == "bilinear" else 1
        kernel = (min(op.factor[0], neighbours), min(op.factor[1], neighbours))
        return _finer(_window(merged, kernel, (1, 1)), op.factor)
    if isinstance(op, ops.PadShortcut):
        return _window(merged, (1, 1), op.stride)
    return merged


def _window(field: Field, extent: Pair, stride: Pair) -> Field:
    (height, width), (down, right) = field.size, field.step
    size = height + (extent[0] - 1) * down, width + (extent[1] - 1) * right
    return Field(size, (down * stride[0], right * stride[1]))


def _finer(field: Field, factor: Pair) -> Field:
    return Field(field.size, (field.step[0] / factor[0], field.step[1] / factor[1]))


def _largest(pairs: list[Numbers]) -> Numbers:
    return max(pair[0] for pair in pairs), max(pair[1] for pair in pairs)
