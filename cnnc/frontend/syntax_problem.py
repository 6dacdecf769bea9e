"""A syntax error as the parser saw it: the offending word, what it had read, what it would have taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import lark

from cnnc.frontend import vocabulary
from cnnc.source import Span

Found = tuple[Span, str, str | None]  # where, what, and a hint

_HEADS = frozenset((*vocabulary.LAYERS, *vocabulary.DEFAULTS, *vocabulary.HEAD, *vocabulary.TRAIN))


@dataclass(frozen=True)
class SyntaxProblem:
    """The offending word, the names of what may stand there, and the LR stack's values."""

    span: Span
    expected: frozenset[str]
    stack: Sequence[object]

    @property
    def word(self) -> str:
        return self.span.text

    @property
    def statement(self) -> Span:
        """From the statement's start to the end of its line, its comment left out."""
        text = self.span.source.text
        start = max(text.rfind(mark, 0, self.span.start) for mark in "\n;{") + 1
        start += len(text[start : self.span.start]) - len(text[start : self.span.start].lstrip())
        ends = [end for end in (text.find(mark, self.span.start) for mark in "\n;#") if end >= 0]
        return Span(self.span.source, start, min(ends, default=len(text)))

    @property
    def head(self) -> str:
        """The keyword of the statement as far as it was read (``conv``, ``CONV``, ``input``), or nothing."""
        for value in reversed(self.stack):
            if isinstance(value, lark.Token) and (value.type == "_SEP" or (value.type != "NAME" and value in _HEADS)):
                return "" if value.type == "_SEP" else str(value)
        return ""

    def open_brace(self) -> lark.Token | None:
        """The innermost ``{`` that waits for its ``}``."""
        return next((value for value in reversed(self.stack) if isinstance(value, lark.Token) and value == "{"), None)

    def previous(self, back: int = 1) -> lark.Token | None:
        """The word before the offending one, or further back."""
        value = self.stack[-back] if len(self.stack) >= back else None
        if isinstance(value, lark.Tree) and value.children:
            value = value.children[-1]
        return value if isinstance(value, lark.Token) else None

    def label(self, back: int = 1) -> lark.Token | None:
        """The label before the offending word, or further back."""
        value = self.stack[-back] if len(self.stack) >= back else None
        if isinstance(value, lark.Token) and value.type == "COLON":
            before = self.previous(back + 1)
            return before if before is not None and before.type in ("NAME", "PATH") else None
        return self.previous(back) if isinstance(value, lark.Tree) and value.data == "label" else None

    def span_of(self, token: lark.Token) -> Span:
        start = token.start_pos or 0
        return Span(self.span.source, start, start + len(token))

    def until(self, start: int, end: int) -> Span:
        return Span(self.span.source, start, end)
