"""The memory plan: offsets in the work arena such that no two live buffers overlap at any N of a bucket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cnnc.ir.size import Size

ROUNDS = 12  # of trying to get below what lies on top
CLOSE = 1.04  # times the least possible is small enough


@dataclass(frozen=True)
class Request:
    """Bytes needed from step ``first`` to step ``last``, both included."""

    size: Size
    first: int
    last: int

    def meets(self, other: Request) -> bool:
        """Whether both are live at some step."""
        return self.first <= other.last and other.first <= self.last


def pack(requests: Sequence[Request], low: int, high: int | None, typical: int) -> tuple[list[Size], Size]:
    """An offset for each request, and the size of the arena.

    Greedy, in several orders; the smallest arena at N = ``typical`` wins. Then what lies on top is placed
    first instead, for some rounds, while the arena is larger than what is live at its fullest step.
    """
    bytes_of = [request.size.at(typical) for request in requests]
    enough = CLOSE * _live(requests, bytes_of)
    orders = _orders(requests, bytes_of)
    best, total = _place(requests, orders[0], low, high, typical)
    order = orders[0]
    for candidate in orders[1:]:
        if total.at(typical) <= enough:
            return best, total
        offsets, size = _place(requests, candidate, low, high, typical)
        if size.at(typical) < total.at(typical):
            best, total, order = offsets, size, candidate
    offsets = best
    for _ in range(ROUNDS):
        if total.at(typical) <= enough:
            break
        top = max(order, key=lambda i: (offsets[i].at(typical) + bytes_of[i], i))
        order = [top, *(i for i in order if i != top)]
        offsets, size = _place(requests, order, low, high, typical)
        if size.at(typical) < total.at(typical):
            best, total = offsets, size
    return best, total


def _live(requests: Sequence[Request], bytes_of: Sequence[int]) -> int:
    """Bytes at the fullest step: no arena is smaller. Some request begins there."""
    return max(
        (
            sum(size for other, size in zip(requests, bytes_of, strict=True) if other.first <= one.first <= other.last)
            for one in requests
        ),
        default=0,
    )


def _orders(requests: Sequence[Request], bytes_of: Sequence[int]) -> list[list[int]]:
    """Large ones first; long-lived ones; both; the last in time; those whose size does not grow with N."""
    every = range(len(requests))
    spans = [request.last - request.first for request in requests]
    return [
        sorted(every, key=lambda i: (-bytes_of[i], requests[i].first, i)),
        sorted(every, key=lambda i: (-spans[i], -bytes_of[i], i)),
        sorted(every, key=lambda i: (-bytes_of[i] * (1 + spans[i]), i)),
        sorted(every, key=lambda i: (-requests[i].last, -bytes_of[i], i)),
        sorted(every, key=lambda i: (requests[i].size.a > 0, -bytes_of[i], i)),
    ]


def _place(
    requests: Sequence[Request], order: Sequence[int], low: int, high: int | None, typical: int
) -> tuple[list[Size], Size]:
    """Each request in turn at the lowest place that is free for every N in the bucket.

    Places are 0, the ends of placed neighbours, and a bound above all of these; whether two ranges are
    apart is decided by ``Size.at_most``, never by trying values of N.
    """
    placed: dict[int, Size] = {}
    for index in order:
        request = requests[index]
        taken = [(placed[other], requests[other].size) for other in placed if requests[other].meets(request)]
        ends = [offset + size for offset, size in taken]
        places = sorted({Size(), *ends}, key=lambda place: (place.at(typical), str(place)))
        fits = (place for place in places if all(_apart(place, request.size, *other, low, high) for other in taken))
        placed[index] = next(fits, _above(ends))
    total = _above([placed[index] + requests[index].size for index in order])
    return [placed[index] for index in range(len(requests))], total


def _apart(place: Size, size: Size, offset: Size, extent: Size, low: int, high: int | None) -> bool:
    before = (place + size).at_most(offset, low, high)
    return before or (offset + extent).at_most(place, low, high)


def _above(ends: Sequence[Size]) -> Size:
    """A size at least as large as each of these at every N: the largest of each term."""
    if not ends:
        return Size()
    step = next((end.t for end in ends if end.b), 1)
    return Size(max(end.a for end in ends), max(end.b for end in ends), step, max(end.c for end in ends))
