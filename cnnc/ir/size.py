"""Sizes and offsets that depend on the batch size N."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """``a*N + b*ceil(N/t) + c``, exact for every N >= 1; Python integers, so 64-bit and beyond."""

    a: int = 0
    b: int = 0
    t: int = 1
    c: int = 0

    def at(self, n: int) -> int:
        return self.a * n + self.b * -(-n // self.t) + self.c

    def __add__(self, other: Size) -> Size:
        """Sum of two sizes; their ``t`` must agree where both have a ceil term."""
        if self.b and other.b and self.t != other.t:
            raise ValueError(f"sizes with ceil(N/{self.t}) and ceil(N/{other.t}) can't be added")
        t = self.t if self.b else other.t
        return Size(self.a + other.a, self.b + other.b, t, self.c + other.c)

    def scaled(self, factor: int) -> Size:
        return Size(self.a * factor, self.b * factor, self.t, self.c * factor)

    def at_most(self, other: Size, low: int, high: int | None) -> bool:
        """Whether self <= other for every N in [low, high] (no upper end if None); may say no where unsure.

        ``N/t <= ceil(N/t) <= N/t + (t-1)/t`` turns the difference into a linear function, which is
        largest at an end of the range. All in integers, multiplied by both ``t``.
        """
        unit = self.t * other.t
        slope = (self.a - other.a) * unit + self.b * other.t - other.b * self.t
        # Rounding up adds most to self, least to other; the other way round where b is negative.
        slack = max(self.b, 0) * other.t * (self.t - 1) + max(-other.b, 0) * self.t * (other.t - 1)
        if self.t == other.t:
            slack = max(self.b - other.b, 0) * other.t * (self.t - 1)
        constant = (self.c - other.c) * unit + slack
        if high is None:
            return slope <= 0 and slope * low + constant <= 0
        return max(slope * low, slope * high) + constant <= 0

    def multiple_of(self, unit: int) -> bool:
        """Whether each term is, and with them the size at every N."""
        return all(term % unit == 0 for term in (self.a, self.b, self.c))

    def __str__(self) -> str:
        terms = [f"{self.a}*N"] if self.a else []
        if self.b:
            terms.append(f"{self.b}*ceil(N/{self.t})")
        if self.c or not terms:
            terms.append(str(self.c))
        return " + ".join(terms)


@dataclass(frozen=True)
class Highest:
    """The largest of some sizes at each N: where memory begins that lies on top of several buffers."""

    sizes: tuple[Size, ...]

    def at(self, n: int) -> int:
        return max(size.at(n) for size in self.sizes)

    def __add__(self, other: Size) -> Highest:
        return Highest(tuple(size + other for size in self.sizes))

    def multiple_of(self, unit: int) -> bool:
        return all(size.multiple_of(unit) for size in self.sizes)

    def __str__(self) -> str:
        return f"max({', '.join(map(str, self.sizes))})"


Offset = Size | Highest
