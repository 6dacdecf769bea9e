"""Where parameters lie in their arena."""

from __future__ import annotations

import pytest

from cnnc.ir.params import ALIGN_ELEMENTS, Arena, Init, ParamSpec, vector_spec

ONES = Init("ones")


def vectors(*counts: int, decay: bool = False) -> list[ParamSpec]:
    """Vectors named a, b, c, ..."""
    return [vector_spec(chr(ord("a") + place), count, ONES, decay=decay) for place, count in enumerate(counts)]


def test_every_parameter_starts_aligned() -> None:
    arena = Arena(tuple(vectors(3, 64, 65, 1)))
    assert arena.offsets == (0, 64, 128, 256)
    assert arena.count == 320
    assert not arena.adjacent(["a", "b"])
    assert arena.adjacent(["b", "c"])
    assert not arena.adjacent(["c", "b"])


def test_a_group_lies_together() -> None:
    arena = Arena(tuple(vectors(5, 48, 7, 16, 70, 3)), (("b", "e", "d"),))
    assert [arena.offset(name) for name in "abedcf"] == [0, 64, 112, 192, 256, 320]
    assert arena.adjacent(["b", "e"])
    assert not arena.adjacent(["b", "e", "d"]), "a count of 70 leaves a gap"
    assert not arena.adjacent(["b", "missing"])
    assert [spec.name for spec in arena.specs] == list("abcdef"), "their order stays the program's"


def test_the_last_of_a_group_ends_aligned() -> None:
    arena = Arena(tuple(vectors(16, 16, 1)), (("a", "b"),))
    assert arena.offsets == (0, 16, 64)
    assert arena.count == 2 * ALIGN_ELEMENTS


@pytest.mark.parametrize("decay", [False, True])
def test_groups_keep_to_their_side_of_the_decayed(decay: bool) -> None:
    others = [vector_spec("w", 10, ONES, decay=True), vector_spec("v", 10, ONES)]
    arena = Arena((others[1], *vectors(32, 5, 32, decay=decay), others[0]), (("a", "c"),))
    assert arena.adjacent(["a", "c"])
    assert arena.offset("w") < arena.decayed <= arena.offset("v")
    assert (arena.offset("c") < arena.decayed) == decay
