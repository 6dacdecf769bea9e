"""Ops across the channels of each pixel."""

from __future__ import annotations

from dataclasses import dataclass

from cnnc.ir.ops.base import Op, expect, expect_same
from cnnc.ir.types import TensorType, format_shape


@dataclass(frozen=True)
class Concat(Op):
    """``(a [...,C1], b [...,C2], ...) -> [...,C1+C2+...]`` along the channels."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        first = operands[0]
        for other in operands[1:]:
            expect(
                other.shape[:-1] == first.shape[:-1] and bool(first.shape) and other.batched,
                f"concat needs equal heights and widths, not {format_shape(first.shape)} and "
                f"{format_shape(other.shape)}",
            )
        return (first.with_shape(*first.shape[:-1], sum(operand.shape[-1] for operand in operands)),)


@dataclass(frozen=True)
class ChannelSlice(Op):
    """``x [...,C] -> [...,count]``, channels from ``start`` on: the gradient of one operand of Concat."""

    start: int
    count: int

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        (x,) = operands
        expect(0 <= self.start and self.start + self.count <= x.shape[-1], "the slice ends outside its operand")
        return (x.with_shape(*x.shape[:-1], self.count),)


@dataclass(frozen=True)
class Split(Op):
    """``x [...,C1+C2+...] -> (a [...,C1], b [...,C2], ...)``: the inverse of Concat; ``counts`` are C1, C2, ..."""

    counts: tuple[int, ...]

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        (x,) = operands
        expect(sum(self.counts) == x.shape[-1], f"the parts add up to {sum(self.counts)} of {x.shape[-1]} channels")
        return tuple(x.with_shape(*x.shape[:-1], count) for count in self.counts)


@dataclass(frozen=True)
class ChannelShuffle(Op):
    """Channel ``g C/groups + i`` moves to ``i groups + g`` (Zhang et al. 2017); the inverse has C/groups groups."""

    groups: int

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        (x,) = operands
        expect(x.shape[-1] % self.groups == 0, f"{self.groups} groups must divide {x.shape[-1]} channels", "groups")
        return (x,)


@dataclass(frozen=True)
class Maxout(Op):
    """``x [...,C] -> [...,C/pieces]``: the maximum of each ``pieces`` neighbouring channels (Goodfellow 2013)."""

    pieces: int

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        (x,) = operands
        channels = x.shape[-1]
        expect(channels % self.pieces == 0, f"{self.pieces} pieces must divide {channels} channels", "pieces")
        return (x.with_shape(*x.shape[:-1], channels // self.pieces),)


@dataclass(frozen=True)
class MaxoutGrad(Op):
    """``(dy [...,C/pieces], x [...,C]) -> dx``: each dy goes to the first maximum of its pieces."""

    pieces: int

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        dy, x = operands
        expect_same(dy, Maxout(self.pieces).infer(x)[0], "maxout_grad")
        return (x,)


@dataclass(frozen=True)
class Lrn(Op):
    """``a / (k + alpha * sum of a^2 over n neighbouring channels)^beta`` (Krizhevsky 2012; alpha not divided by n).

    The sum for channel c runs over ``c - n//2 <= j <= c + (n-1)//2``, cut off at the ends.
    """

    n: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return operands


@dataclass(frozen=True)
class LrnGrad(Op):
    """``(dy, x) -> dx``; the sums are computed again."""

    n: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        expect_same(operands[0], operands[1], "lrn_grad")
        return (operands[0],)
