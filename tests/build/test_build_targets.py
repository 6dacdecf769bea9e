"""Names of GPUs."""

from __future__ import annotations

import pytest

from cnnc.codegen.build_targets import TARGETS, parse_targets
from cnnc.errors import UsageError


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("sm_90", ("sm_90",)),
        ("sm_90,sm_80, gfx942", ("sm_90", "sm_80", "gfx942")),
        (["sm_90a", "SM_90", "sm90"], ("sm_90",)),
        (["gfx942,sm_100"], ("gfx942", "sm_100")),
    ],
)
def test_names(given: str | list[str], canonical: tuple[str, ...]) -> None:
    assert parse_targets(given) == canonical


@pytest.mark.parametrize("given", ["sm_91", "hopper", "sm_", "90", "gfx", "sm_90;rm", "\x1b[31m"])
def test_an_unknown_target_is_one_sentence_with_the_known_ones(given: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_targets(given)
    sentence = str(caught.value)
    assert sentence.startswith("unknown target '")
    assert sentence.endswith(f"known targets are {', '.join(TARGETS)}")
    assert sentence.isprintable()


def test_a_very_long_name_is_cut() -> None:
    with pytest.raises(UsageError) as caught:
        parse_targets("sm_" + "9" * 100_000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("given", ["", " , ", []])
def test_no_target(given: str | list[str]) -> None:
    with pytest.raises(UsageError, match="no target given"):
        parse_targets(given)
