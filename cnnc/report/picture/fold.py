"""Repeats folded: consecutive equal blocks become one with ``xN``.

Boxes stand in the tree of their scopes (``stage2.1.conv1`` in ``1`` in ``stage2``). At each level a run of up to
``LONGEST`` neighbours that comes again at once, with equal words, shapes and edges, each reading the one before it and
nothing else, is drawn once. A dense block's layers, each of which adds channels to what it reads, are equal too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from cnnc.report.picture.boxes import Box

LONGEST = 12  # items of a repeat that no scope holds together


@dataclass(frozen=True)
class Leaf:
    """One box, drawn once for ``count`` equal ones up to the box ``last``."""

    box: int
    count: int = 1
    last: int = -1


@dataclass(frozen=True)
class Group:
    """A block: the items in it, and how often it comes; ``label`` is its scope, or first and last of a repeat."""

    label: str
    items: tuple[Leaf | Group, ...]
    count: int = 1
    grows_to: str = ""  # the last one's output, where each adds channels


@dataclass(frozen=True)
class Picture:
    """What is drawn: boxes, the tree of them, and for each box that is not drawn the one that stands for it."""

    boxes: tuple[Box, ...]
    items: tuple[Leaf | Group, ...]
    stands_for: dict[int, int]


@dataclass(frozen=True)
class _Scope:
    """A part of the program: its boxes, and its own parts."""

    label: str
    boxes: tuple[int, ...]
    parts: tuple[_Scope, ...]


def fold(boxes: tuple[Box, ...]) -> Picture:
    """The picture of a network with its repeats folded."""
    return _Folder(boxes).picture()


class _Folder:
    def __init__(self, boxes: tuple[Box, ...]) -> None:
        self.boxes = boxes
        self.users: list[list[int]] = [[] for _ in boxes]
        for index, box in enumerate(boxes):
            for source in dict.fromkeys(box.inputs):
                self.users[source].append(index)
        self.stands_for: dict[int, int] = {}

    def picture(self) -> Picture:
        root = _tree(self.boxes, tuple(range(len(self.boxes))), 0)
        return Picture(self.boxes, tuple(self._items(root)), self.stands_for)

    def _items(self, parts: tuple[_Scope, ...], *, whole: bool = False) -> Iterator[Leaf | Group]:
        """Items for the parts of one scope; ``whole`` parts are a repeat themselves and not searched as one."""
        position = 0
        while position < len(parts):
            length, count = self._repeat(parts[position:], len(parts) - 1 if whole else LONGEST)
            run = parts[position : position + length * count]
            yield self._item(run[:length], run[-length:], count)
            position += length * count

    def _item(self, first: tuple[_Scope, ...], last: tuple[_Scope, ...], count: int) -> Leaf | Group:
        last_box = last[-1].boxes[-1]
        grows_to = self._shape(last_box) if self._shape(last_box) != self._shape(first[-1].boxes[-1]) else ""
        if len(first) > 1:
            return Group("", tuple(self._items(first, whole=True)), count, grows_to)
        (part,) = first
        if not part.parts:
            return Leaf(part.boxes[0], count, last[0].boxes[0])
        label = part.label if count == 1 else f"{part.label} to {last[0].label}"
        return Group(label, tuple(self._items(part.parts)), count, grows_to)

    # -- repeats ----------------------------------------------------------------------------------

    def _repeat(self, parts: tuple[_Scope, ...], longest: int) -> tuple[int, int]:
        """Length and count of the repeat that these parts begin with and that covers most; 1, 1 without one."""
        best = 1, 1
        for length in range(1, min(longest, len(parts) // 2) + 1):
            count = self._count(parts, length)
            if count > 1 and length * count > best[0] * best[1]:
                best = length, count
            if best[0] * best[1] + length >= len(parts):
                break  # no longer repeat can cover more
        length, count = best
        first = _boxes(parts[:length])
        for number in range(1, count):
            copies = _boxes(parts[number * length : (number + 1) * length])
            self.stands_for.update(zip(copies, first, strict=True))
        return best

    def _count(self, parts: tuple[_Scope, ...], length: int) -> int:
        blocks = [_boxes(parts[:length])]
        form = self._form(blocks[0])
        for start in range(length, len(parts) - length + 1, length):
            block = _boxes(parts[start : start + length])
            # Cheaper than the form of the whole, and nearly always enough to tell.
            if len(block) != len(blocks[0]) or self.boxes[block[0]].lines != self.boxes[blocks[0][0]].lines:
                break
            if self._form(block) != form or not self._follows(blocks[-1], block):
                break
            blocks.append(block)
        while len(blocks) > 1 and len(self._exits(blocks[-1])) > 1:
            blocks.pop()
        return len(blocks)

    def _form(self, block: Sequence[int]) -> tuple[object, ...]:
        """What two blocks must have in common to be one drawing: words, shapes and edges."""
        place = {box: index for index, box in enumerate(block)}
        outside: dict[int, int] = {}
        grown = self._grown(block)
        form = []
        for index in block:
            box = self.boxes[index]
            edges = tuple(
                place[source]
                if source in place
                else (outside.setdefault(source, len(outside)), self._size(source, grown))
                for source in box.inputs
            )
            form.append((box.kind, box.lines, self._size(index, grown), edges))
        return tuple(form)

    def _grown(self, block: Sequence[int]) -> set[int]:
        """What has more channels in each layer of a dense block: the value it reads, and its last concat with it."""
        last = self.boxes[block[-1]]
        read = {source for box in block for source in self.boxes[box].inputs} - set(block)
        is_dense = last.lines[:1] == ("concat",) and len(block) > 1 and len(read) == 1 and read < set(last.inputs)
        return {block[-1], *read} if is_dense else set()

    def _size(self, box: int, grown: set[int]) -> str:
        """A box's shape, or its image's size alone."""
        return self._shape(box).rpartition("x")[0] if box in grown else self._shape(box)

    def _shape(self, box: int) -> str:
        return self.boxes[box].shape

    def _follows(self, before: Sequence[int], block: Sequence[int]) -> bool:
        """Whether a block reads one value, which is the one before's only way out and goes nowhere else."""
        inside, own = set(before), set(block)
        read = {source for box in block for source in self.boxes[box].inputs if source not in own}
        exits = self._exits(before)
        return (
            len(read) == 1
            and read == exits
            and all(user in inside or user in own for source in exits for user in self.users[source])
        )

    def _exits(self, block: Sequence[int]) -> set[int]:
        own = set(block)
        return {box for box in block if any(user not in own for user in self.users[box])}


def _boxes(parts: Sequence[_Scope]) -> list[int]:
    return [box for part in parts for box in part.boxes]


def _tree(boxes: tuple[Box, ...], indices: tuple[int, ...], depth: int) -> tuple[_Scope, ...]:
    """Neighbours with the same next component of their scope form one part."""
    parts: list[_Scope] = []
    for key, run in groupby(indices, _component(boxes, depth)):
        members = tuple(run)
        if key is None:
            parts += [_Scope("", (index,), ()) for index in members]
        else:
            label = ".".join(boxes[members[0]].scope[: depth + 1])
            parts.append(_Scope(label, members, _tree(boxes, members, depth + 1)))
    return tuple(parts)


def _component(boxes: tuple[Box, ...], depth: int) -> Callable[[int], str | None]:
    def key(index: int) -> str | None:
        scope = boxes[index].scope
        return scope[depth] if len(scope) > depth else None

    return key
