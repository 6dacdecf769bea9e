"""The grammar itself, and that every keyword it has is known to the messages."""

from __future__ import annotations

import lark

from cnnc.frontend import vocabulary
from cnnc.frontend.parser import grammar
from cnnc.resources import resource

TEXT = resource("grammars", "cnn.lark").read_text(encoding="utf-8")


def test_lalr_without_conflicts_in_strict_mode() -> None:
    lark.Lark(TEXT, parser="lalr", strict=True)


def test_the_grammar_stays_small() -> None:
    assert len(TEXT.splitlines()) <= 135


def test_every_keyword_of_the_grammar_is_in_the_vocabulary() -> None:
    words = {t.pattern.value for t in grammar().terminals if t.pattern.type == "str" and t.pattern.value.isidentifier()}
    # Single letters may be labels.
    assert {word for word in words if len(word) > 1} == vocabulary.KEYWORDS
    assert {word for word in words if len(word) == 1} == {"f", "s"}


def test_the_reference_names_every_word() -> None:
    reference = resource("grammars", "reference.md").read_text(encoding="utf-8")
    assert [word for word in sorted(vocabulary.KEYWORDS) if word not in reference] == []
    assert [letter for letter in vocabulary.LETTERS if f"`{letter}`" not in reference] == []
