"""The memory plan: offsets in the work arena such that no two live buffers overlap at any N of a bucket.

Some sizes grow with N and others (partial sums of weight gradients) do not, so that no packing by offsets
linear in N is small at every N. What is chosen here is only who lies below whom among buffers that are live
together. An offset is then the highest end of what lies below: the greatest of a few lines in N, and no two
buffers meet at any N, by construction. At one N this is memory packing as usual (``packing``).
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnc.ir.plan import ALIGN_BYTES
from cnnc.ir.size import Highest, Offset, Size
from cnnc.passes.packing import Attempt, Integers, Items, attempts, least, variation

CLOSE = 1.01  # times the least possible at the typical N is small enough: then other N decide
ELSEWHERE = 1.1  # times as far from the least possible is as good at another N
EVERYWHERE = 1.025  # times the least possible at every N looked at: no better one is searched for
WORK = 12_000  # placements to spend on a search, besides the first packing

SEED = 0

Score = tuple[float, float, float]  # the smaller the better
Line = tuple[int, int]  # slope and constant of bytes in N
Lines = tuple[Line, ...]  # of which the highest counts at each N


@dataclass(frozen=True)
class Request:
    """Bytes needed from step ``first`` to step ``last``, both included."""

    size: Size
    first: int
    last: int

    def meets(self, other: Request) -> bool:
        """Whether both are live at some step."""
        return self.first <= other.last and other.first <= self.last


def pack(requests: Sequence[Request], low: int, high: int | None, typical: int) -> tuple[list[Offset], Offset]:
    """An offset for each request, and the size of the arena, for every N in [low, high].

    Several packings are tried, of sizes at N = ``typical`` and at others, within a bounded amount of work
    and always in the same way. Best is what comes close to ``live_bytes`` at ``typical``, then at every N.
    """
    if not requests:
        return [], Size()
    lines = [_line(request.size) for request in requests]
    order = _search(requests, lines, _samples(low, high, typical))
    return _stack(requests, lines, order, low, high)


def live_bytes(requests: Sequence[Request], n: int) -> int:
    """Bytes at the fullest step at N = ``n``: no arena is smaller."""
    return int(least(_items(requests, [_line(request.size) for request in requests], n)))


def _samples(low: int, high: int | None, typical: int) -> list[int]:
    """The N to look at: ``typical`` first."""
    far = [high] if high is not None else [4 * typical, 1024 * typical]
    return list(dict.fromkeys([typical, low, *far]))


def _line(size: Size) -> Line:
    """The size, or a line above it where it has a term in ceil(N/t), which is at most (N + t) / t."""
    if size.t == 1:
        return size.a + size.b, size.c
    per_image = -(-size.b // (size.t * ALIGN_BYTES)) * ALIGN_BYTES
    return size.a + per_image, size.c + size.b


def _items(requests: Sequence[Request], lines: Sequence[Line], n: int) -> Items:
    sizes = np.array([slope * n + constant for slope, constant in lines], np.int64)
    first = np.array([request.first for request in requests], np.int64)
    last = np.array([request.last for request in requests], np.int64)
    return Items(sizes, first, last)


def _search(requests: Sequence[Request], lines: Sequence[Line], samples: Sequence[int]) -> list[int]:
    """Requests from the lowest to the highest, in the best packing found."""
    cases = [_items(requests, lines, n) for n in samples]
    bounds = np.array([max(1, least(items)) for items in cases])
    sizes = np.stack([items.sizes for items in cases])
    draw = random.Random(SEED)
    first = attempts(cases)
    best: tuple[Score, list[int], Attempt, Integers] | None = None
    for _ in range(1 + WORK // len(requests)):
        attempt = next(first, None)
        if attempt is None:
            assert best is not None
            attempt = variation(best[2], best[3], cases, draw)
        addresses = attempt.addresses()
        order = np.argsort(addresses, kind="stable").tolist()
        ratios = (_totals(cases[0], sizes, order) / bounds).tolist()
        score = max(CLOSE, ratios[0], max(ratios) / ELSEWHERE), max(ratios), ratios[0]
        if best is None or score <= best[0]:
            best = score, order, attempt, addresses
        if score[0] <= CLOSE and score[1] <= EVERYWHERE:
            break
    assert best is not None
    return best[1]


def _totals(items: Items, sizes: Integers, order: Sequence[int]) -> Integers:
    """Bytes of the arena for each row of sizes, where each request lies on those before it in ``order``."""
    top = np.zeros((len(sizes), int(items.last.max()) + 1), np.int64)
    for index in order:
        under = top[:, items.first[index] : items.last[index] + 1]
        under[:] = (under.max(axis=1) + sizes[:, index])[:, None]
    result: Integers = top.max(axis=1)
    return result


def _stack(
    requests: Sequence[Request], lines: Sequence[Line], order: Sequence[int], low: int, high: int | None
) -> tuple[list[Offset], Offset]:
    """Offsets by N, and the size of the arena, where each request lies on those before it in ``order``."""
    offsets: list[Offset] = [Size()] * len(requests)
    skyline = _Skyline(low, high)
    for index in order:
        begin = skyline.over(requests[index].first, requests[index].last)
        offsets[index] = _offset(begin)
        slope, constant = lines[index]
        end = tuple((a + slope, c + constant) for a, c in begin)
        skyline.raise_to(end, requests[index].first, requests[index].last)
    return offsets, _offset(skyline.over(0, max(request.last for request in requests)))


class _Skyline:
    """The highest end of what has been placed, by step: runs of equal steps, each from ``starts[i]`` on."""

    def __init__(self, low: int, high: int | None) -> None:
        self.low, self.high = low, high
        self.starts = [0]
        self.ends: list[Lines] = [((0, 0),)]

    def over(self, first: int, last: int) -> Lines:
        """The highest end at any of these steps."""
        runs = slice(bisect_right(self.starts, first) - 1, bisect_right(self.starts, last))
        ends = set(self.ends[runs])
        return ends.pop() if len(ends) == 1 else upper({line for end in ends for line in end}, self.low, self.high)

    def raise_to(self, end: Lines, first: int, last: int) -> None:
        """Put an end that is nowhere lower than what these steps have."""
        before = bisect_left(self.starts, first)
        after = bisect_right(self.starts, last + 1)
        rest = self.ends[after - 1]
        self.starts[before:after] = [first, last + 1]
        self.ends[before:after] = [end, rest]


def upper(lines: set[Line], low: int, high: int | None) -> Lines:
    """Those that are highest somewhere in [low, high], by slope."""
    hull: list[Line] = []
    for slope, constant in sorted(lines):
        while hull and slope * low + constant >= hull[-1][0] * low + hull[-1][1]:
            hull.pop()
        while len(hull) > 1 and _hidden(hull[-2], hull[-1], (slope, constant)):
            hull.pop()
        hull.append((slope, constant))
    while high is not None and len(hull) > 1 and hull[-1][0] * high + hull[-1][1] <= hull[-2][0] * high + hull[-2][1]:
        hull.pop()
    return tuple(hull)


def _hidden(flat: Line, middle: Line, steep: Line) -> bool:
    """Whether the steep line is above the middle one where that has come up to the flat one."""
    return (flat[1] - steep[1]) * (middle[0] - flat[0]) <= (flat[1] - middle[1]) * (steep[0] - flat[0])


def _offset(lines: Lines) -> Offset:
    sizes = tuple(Size(a=slope, c=constant) for slope, constant in lines)
    return sizes[0] if len(sizes) == 1 else Highest(sizes)
