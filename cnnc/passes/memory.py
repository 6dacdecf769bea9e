"""The memory plan: offsets in the work arena such that no two live buffers overlap at any N of a bucket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cnnc.ir.size import Size


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

    Greedy: largest first (at N = ``typical``), each at the lowest place that is free for every N in
    the bucket. Places are 0, the ends of placed neighbours, and a bound above all of these; whether
    two ranges are apart is decided by ``Size.at_most``, never by trying values of N.
    """
    order = sorted(range(len(requests)), key=lambda i: (-requests[i].size.at(typical), requests[i].first, i))
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
