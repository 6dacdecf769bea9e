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

# Columns of a product's tile at most: an operand computed on the way is computed again for each block of so many.
WIDEST_TILE = 128

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


def type_bytes(kind: TensorType, n: int, dtype: str) -> int:
    """Bytes of a value for a batch of n, in a compilation for ``dtype``."""
    return kind.count * (n if kind.batched else 1) * ITEM_BYTES[resolve(kind.element, dtype)]


@dataclass(frozen=True)
class Work:
    """What one kernel does for one image: multiply-adds, repeated ones included, and the share of each operand's
    elements that it reads at all."""

    macs: int
    shares: tuple[Fraction, ...]


def work_of(op: ops.Op, operands: Types, results: Types) -> Work:
    """The work of an op, plain or fused, from its types.

    In a fused body a value is computed where it is read: once for each tap of a window, once for each block of a
    product's columns. A strided window leaves out what it steps over.
    """
    parts, left = (op.parts, op.results) if isinstance(op, ops.Fused) else _alone(op, len(operands), len(results))
    values = list(operands)
    made: list[range] = []
    for part in parts:
        values.extend(part.op.infer(*(values[i] for i in part.operands)))
        made.append(range(made[-1].stop if made else len(operands), len(values)))
    times = [Fraction(0)] * len(values)  # how often each value is computed, on average over its elements
    shares = [Fraction(0)] * len(values)  # how much of it is read, or leaves
    for number in left:
        times[number] = shares[number] = Fraction(1)
    total = Fraction(0)
    for part, numbers in reversed(list(zip(parts, made, strict=True))):
        inputs, outputs = [values[i] for i in part.operands], [values[i] for i in numbers]
        own, share = max(times[i] for i in numbers), max(shares[i] for i in numbers)
        total += own * macs(part.op, tuple(inputs), tuple(outputs))
        for slot, (i, kind) in enumerate(zip(part.operands, inputs, strict=True)):
            times[i] = max(times[i], own * _reads(part.op, slot, kind, outputs[0]))
            shares[i] = max(shares[i], _share(part.op, slot, kind, outputs[0], share))
    return Work(math.ceil(total), tuple(shares[: len(operands)]))


def _alone(op: ops.Op, operands: int, results: int) -> tuple[tuple[ops.Part, ...], tuple[int, ...]]:
    """A plain op as a body of one part."""
    return (ops.Part("", op, tuple(range(operands))),), tuple(range(operands, operands + results))


# Ops whose results are windows over their first operand.
WINDOWED = (ops.Conv, ops.MaxPool, ops.AvgPool, ops.SumPool)
# Those that spread their first operand over such windows again.
SPREADING = (ops.ConvDgrad, ops.MaxPoolGrad, ops.AvgPoolGrad, ops.SumPoolGrad)


def _reads(op: ops.Op, slot: int, operand: TensorType, result: TensorType) -> Fraction:
    """How often a kernel that computes an op's result once reads each element of an operand, on average."""
    if slot == 0 and isinstance(op, WINDOWED):
        return Fraction(math.prod(result.shape[:2]) * op.window.taps, math.prod(operand.shape[:2]))
    if slot == 0 and isinstance(op, SPREADING):
        return Fraction(op.window.taps)
    if slot == 0 and isinstance(op, ops.Linear | ops.LinearDgrad):
        return Fraction(-(-result.shape[-1] // WIDEST_TILE))
    return Fraction(1)


def _share(op: ops.Op, slot: int, operand: TensorType, result: TensorType, wanted: Fraction) -> Fraction:
    """How much of an operand the wanted share of an op's result takes."""
    image = 1 if isinstance(op, ops.ConvWgrad) else 0
    if slot == image and isinstance(op, ops.ConvWgrad | ops.Conv | ops.MaxPool | ops.AvgPool | ops.SumPool):
        height, width = operand.shape[:2]
        return Fraction(math.prod(op.window.touched((height, width))), height * width)
    if isinstance(op, ops.Crop | ops.ChannelSlice | ops.RowSlice):
        return Fraction(result.count, operand.count)
    if isinstance(op, ops.PadShortcut):
        return Fraction(math.prod(result.shape[:2]), math.prod(operand.shape[:2]))
    same_pixels = operand.batched and operand.shape[:-1] == result.shape[:-1]
    return wanted if same_pixels else Fraction(1)


def typical_us(op: ops.Op, operands: Types) -> float:
    """Microseconds of one kernel for an op on values of these types, for the batch and dtype that passes compare."""
    results = op.infer(*operands)
    work = work_of(op, operands, results)
    sizes = [type_bytes(kind, TYPICAL_BATCH, TYPICAL_DTYPE) for kind in (*operands, *results)]
    shares = (*work.shares, *(Fraction(1) for _ in results))
    nbytes = sum(math.ceil(share * size) for share, size in zip(shares, sizes, strict=True))
    return roofline_us(nbytes, 2 * TYPICAL_BATCH * work.macs)
