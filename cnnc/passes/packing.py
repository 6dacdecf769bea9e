"""Memory packing at one batch size: addresses for requests of known bytes and known lives.

Greedy: each request in turn in a gap among those it meets. What decides is the order, and which gap; no one
choice serves all networks, so that a few are tried, and the best can be varied.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Gaps = Integers  # one row ``begin, end`` for each that is wide enough, lowest first
Rule = Callable[[Gaps, int, int], int]


@dataclass(frozen=True)
class Items:
    """What is to be packed: bytes, and the first and the last step of each life."""

    sizes: Integers
    first: Integers
    last: Integers


def live(items: Items) -> Integers:
    """Bytes live at each step."""
    change = np.zeros(int(items.last.max(initial=-1)) + 2, np.int64)
    np.add.at(change, items.first, items.sizes)
    np.add.at(change, items.last + 1, -items.sizes)
    result: Integers = np.cumsum(change)
    return result


def least(items: Items) -> int:
    """Bytes live at the fullest step: no packing takes less."""
    return int(live(items).max())


@dataclass(frozen=True)
class Attempt:
    """A way to pack: items placed in ``order``, each in the gap that ``rule`` chooses."""

    items: Items
    order: list[int]
    rule: Rule

    def addresses(self) -> Integers:
        return place(self.items, self.order, self.rule)


def attempts(cases: Sequence[Items]) -> Iterator[Attempt]:
    """Orders and rules that do well on networks, for each case in turn."""
    for items in cases:
        orders = _orders(items)
        for name, rule in PORTFOLIO:
            yield Attempt(items, orders[name], rule)


def variation(attempt: Attempt, addresses: Integers, cases: Sequence[Items], draw: random.Random) -> Attempt:
    """One item is placed earlier or later, often one that did not fit at these ``addresses``."""
    items = attempt.items
    outside = np.flatnonzero(addresses + items.sizes > least(items)).tolist()
    moved = draw.choice(outside if outside and draw.random() < 0.5 else attempt.order)
    varied = [index for index in attempt.order if index != moved]
    varied.insert(draw.randrange(len(attempt.order)), moved)
    case = items if draw.random() < 0.5 else draw.choice(cases)
    return Attempt(case, varied, draw.choice((_lowest, _outermost, _tightest)))


def place(items: Items, order: Sequence[int], rule: Rule) -> Integers:
    """Addresses of all items, placed in ``order``: in a gap below the least possible total, else on top."""
    room, count = least(items), len(order)
    sizes, firsts, lasts = (array.tolist() for array in (items.sizes, items.first, items.last))
    first, last, begin, end = (np.empty(count, np.int64) for _ in range(4))  # of what is placed, by address
    addresses = np.zeros(count, np.int64)
    for placed, index in enumerate(order):
        met = np.flatnonzero((first[:placed] <= lasts[index]) & (last[:placed] >= firsts[index]))
        gaps = np.empty((len(met) + 1, 2), np.int64)
        gaps[0, 0], gaps[-1, 1] = 0, room
        np.maximum.accumulate(end[met], out=gaps[1:, 0])
        gaps[:-1, 1] = begin[met]
        wide = gaps[gaps[:, 1] - gaps[:, 0] >= sizes[index]]
        at = rule(wide, sizes[index], room) if len(wide) else int(gaps[-1, 0])
        position = int(np.searchsorted(begin[:placed], at, side="right"))
        for array, value in ((first, firsts[index]), (last, lasts[index]), (begin, at), (end, at + sizes[index])):
            array[position + 1 : placed + 1] = array[position:placed]
            array[position] = value
        addresses[index] = at
    return addresses


def _lowest(gaps: Gaps, size: int, room: int) -> int:
    return int(gaps[0, 0])


def _tightest(gaps: Gaps, size: int, room: int) -> int:
    """In the narrowest gap; in one below the end of all, at its end."""
    begin, end = gaps[np.argmin(gaps[:, 1] - gaps[:, 0])].tolist()
    return int(end - size if end == room and begin else begin)


def _outermost(gaps: Gaps, size: int, room: int) -> int:
    """As near as possible to either end: what follows each other in time lies at opposite ends."""
    lowest, highest = int(gaps[0, 0]), int(gaps[-1, 1])
    return lowest if lowest <= room - highest else highest - size


# The order and the rule, the most successful ones on networks first, then those that do best on what they leave.
PORTFOLIO: tuple[tuple[str, Rule], ...] = (
    ("crowd", _outermost),
    ("size", _lowest),
    ("peak", _lowest),
    ("crowd", _tightest),
    ("span", _outermost),
    ("peak", _outermost),
    ("size", _outermost),
)


def _orders(items: Items) -> dict[str, list[int]]:
    """By how full it gets in a life, then how long that is; by the distance in time from the peak; long; large."""
    level = live(items)
    peak = int(np.argmax(level))
    spans = items.last - items.first
    crowds = np.array([level[first : last + 1].max() for first, last in zip(items.first, items.last, strict=True)])
    away = np.maximum(0, np.maximum(items.first - peak, peak - items.last))
    return {
        "crowd": np.lexsort((-items.sizes, -spans, -crowds)).tolist(),
        "peak": np.lexsort((-items.sizes, away)).tolist(),
        "span": np.lexsort((-items.sizes, -spans)).tolist(),
        "size": np.lexsort((items.first, -items.sizes)).tolist(),
    }
