"""The memory plan: offsets in the work arena such that no two live buffers overlap at any N of a bucket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnnc.ir.size import Size

ROUNDS = 12  # of trying to get below what lies on top
CLOSE = 1.04  # times the least possible is small enough
MANY = 1500  # requests, from which on the time for more than one order is not worth it

Integers = NDArray[np.int64]


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
    if len(requests) > MANY:
        return best, total
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
    """Bytes at the fullest step: no arena is smaller."""
    change: dict[int, int] = {}
    for request, size in zip(requests, bytes_of, strict=True):
        change[request.first] = change.get(request.first, 0) + size
        change[request.last + 1] = change.get(request.last + 1, 0) - size
    live = fullest = 0
    for step in sorted(change):
        live += change[step]
        fullest = max(fullest, live)
    return fullest


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

    Places are 0, the ends of placed neighbours, and a bound above all of these; gaps are looked for at
    N = ``typical``, and whether two ranges are apart at every N is decided by ``_at_most``.
    """
    step = next((request.size.t for request in requests if request.size.b), 1)
    sizes = _terms([requests[index].size for index in order])
    starts, ends = np.zeros_like(sizes), np.zeros_like(sizes)
    first = np.array([requests[index].first for index in order])
    last = np.array([requests[index].last for index in order])
    at_typical = np.array([typical, -(-typical // step), 1])
    for count in range(len(order)):
        met = np.flatnonzero((first[:count] <= last[count]) & (last[:count] >= first[count]))
        size, taken, free = sizes[count], starts[met], ends[met]
        place = free.max(axis=0) if len(met) else np.zeros(3, dtype=np.int64)
        for candidate in _gaps(taken @ at_typical, free @ at_typical, int(size @ at_typical)):
            tried = free[candidate] if candidate >= 0 else np.zeros(3, dtype=np.int64)
            before = _at_most(tried + size, taken, step, low, high)
            if np.all(before | _at_most(free, tried, step, low, high)):
                place = tried
                break
        starts[count], ends[count] = place, place + size
    total = ends.max(axis=0) if len(order) else np.zeros(3, dtype=np.int64)
    offsets = {index: _size(starts[count], step) for count, index in enumerate(order)}
    return [offsets[index] for index in range(len(requests))], _size(total, step)


def _gaps(starts: Integers, ends: Integers, size: int) -> list[int]:
    """Whose end opens a gap of ``size`` bytes, lowest first: -1 for the arena's begin, the last for what is on top."""
    if not len(starts):
        return [-1]
    by_start = np.argsort(starts, kind="stable")
    begins, stops = starts[by_start], ends[by_start]
    reached = np.maximum.accumulate(stops)
    # The first whose end is the highest so far; where it stands alone there may be a gap behind it.
    opens = np.maximum.accumulate(np.where(stops == reached, np.arange(len(stops)), 0))
    wide = np.flatnonzero(begins[1:] - reached[:-1] >= size)
    candidates = [-1] if begins[0] >= size else []
    return [*candidates, *(int(by_start[opens[place]]) for place in wide), int(by_start[opens[-1]])]


def _terms(sizes: Sequence[Size]) -> Integers:
    """One row ``a, b, c`` a size. Their ``t`` agree, or they could not be added."""
    if len({size.t for size in sizes if size.b}) > 1:
        raise ValueError("sizes with different ceil(N/t) can't share an arena")
    return np.array([(size.a, size.b, size.c) for size in sizes], dtype=np.int64).reshape(-1, 3)


def _size(terms: Integers, step: int) -> Size:
    a, b, c = map(int, terms)
    return Size(a, b, step if b else 1, c)


def _at_most(left: Integers, right: Integers, step: int, low: int, high: int | None) -> NDArray[np.bool_]:
    """``Size.at_most`` of rows: whether left <= right for every N in [low, high]; may say no where unsure."""
    difference = left - right
    slope = difference[:, 0] * step + difference[:, 1]
    constant = difference[:, 2] * step + np.maximum(difference[:, 1], 0) * (step - 1)
    fits = slope * low + constant <= 0
    result: NDArray[np.bool_] = fits & (slope <= 0 if high is None else slope * high + constant <= 0)
    return result
