"""The cost model: bytes moved and work done by one kernel, and the time that the tighter of two limits allows.

A kernel moves each distinct operand once and each of its results once, through memory at BYTES_PER_SECOND, and
multiplies at FLOPS_PER_SECOND (both thought reachable on an H200). What stays inside a fused body moves nothing; a
product computed again there counts as often as it is computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from cnnc.ir import ops
from cnnc.ir.cost import macs
from cnnc.ir.types import ITEM_BYTES, TensorType, resolve

BYTES_PER_SECOND = 4.0e12
FLOPS_PER_SECOND = 700e12

# Where passes compare: one batch and dtype, so that a program's graph is the same for all of them.
TYPICAL_BATCH = 128
TYPICAL_DTYPE = "bfloat16"

Types = Sequence[TensorType]


@dataclass(frozen=True)
class Cost:
    """What one kernel moves and computes."""

    bytes: int = 0
    flops: int = 0

    @property
    def roofline_us(self) -> float:
        """Microseconds that the kernel takes at least. Those of several kernels add up; their bytes do not tell."""
        return roofline_us(self.bytes, self.flops)


def roofline_us(nbytes: int, flops: int) -> float:
    """Microseconds at the tighter of the two limits."""
    return max(nbytes / BYTES_PER_SECOND, flops / FLOPS_PER_SECOND) * 1e6


def total_us(costs: Iterable[Cost]) -> float:
    """Microseconds of kernels that run one after the other."""
    return math.fsum(cost.roofline_us for cost in costs)


def moved_bytes(values: Iterable[TensorType], n: int = TYPICAL_BATCH, dtype: str = TYPICAL_DTYPE) -> int:
    """Bytes of some values for a batch of n, in a compilation for ``dtype``."""
    return sum(kind.count * (n if kind.batched else 1) * ITEM_BYTES[resolve(kind.element, dtype)] for kind in values)


def computed_macs(op: ops.Op, operands: Types, results: Types) -> int:
    """Multiply-adds per image of one kernel, those that a fused body repeats included."""
    if not isinstance(op, ops.Fused):
        return macs(op, tuple(operands), tuple(results))
    values = op.value_types(operands)
    total = Fraction(0)
    for part, times, outputs in _evaluations(op, values, len(operands)):
        inputs = tuple(values[i] for i in part.operands)
        total += times * macs(part.op, inputs, tuple(values[i] for i in outputs))
    return math.ceil(total)


def _evaluations(op: ops.Fused, values: Types, first: int) -> list[tuple[ops.Part, Fraction, range]]:
    """The parts of a body, how often each of their elements is computed on average, and the numbers of their results.

    A result that leaves is computed once, whoever else reads it; one that only windows read, once for each tap.
    """
    ends = []
    for part in op.parts:
        count = len(part.op.infer(*(values[i] for i in part.operands)))
        ends.append(range(first, first + count))
        first += count
    times = dict.fromkeys(op.results, Fraction(1))
    found = []
    for part, outputs in reversed(list(zip(op.parts, ends, strict=True))):
        own = max(times.get(i, Fraction(0)) for i in outputs)
        found.append((part, own, outputs))
        for slot, i in enumerate(part.operands):
            reads = own * _reads(part.op, slot, values[i], values[outputs[0]])
            times[i] = max(times.get(i, Fraction(0)), reads)
    return found[::-1]


def _reads(op: ops.Op, slot: int, operand: TensorType, result: TensorType) -> Fraction:
    """How often a kernel that computes an op's result once reads each pixel of an operand, on average."""
    if slot == 0 and isinstance(op, ops.Conv | ops.MaxPool | ops.AvgPool | ops.SumPool):
        pixels = math.prod(result.shape[:2]) * op.window.taps
        return Fraction(pixels, math.prod(operand.shape[:2]))
    if slot == 0 and isinstance(op, ops.ConvDgrad | ops.AvgPoolGrad | ops.SumPoolGrad | ops.MaxPoolGrad):
        return Fraction(op.window.taps)
    return Fraction(1)
