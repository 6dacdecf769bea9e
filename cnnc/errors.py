"""Errors as sentences: diagnostics with a position, and the exceptions that carry them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cnnc.source import Span

MAX_SHOWN = 20
LINE_WIDTH = 120


class CnnError(Exception):
    """Base of everything cnnc raises for bad input: one plain sentence."""


class UsageError(CnnError):
    """An argument, array, file or flag that can't be used as given."""


@dataclass(frozen=True)
class Diagnostic:
    """One error in a program: where, what, how to mend it, and the calls of blocks that it was found in."""

    span: Span
    message: str
    hint: str | None = None
    calls: tuple[str, ...] = ()

    def render(self) -> str:
        """``file:line:column: error: message``, the line with carets, and the hint."""
        line, column = self.span.source.line_column(self.span.start)
        text = self.span.source.line_text(line)
        width = max(1, min(self.span.end - self.span.start, len(text) - column + 1))
        shown, start = _clip(text, column - 1, width)
        # A tab before the caret stays a tab, so that the caret lands under its operand.
        indent = "".join("\t" if char == "\t" else " " for char in shown[:start])
        carets = "^" * max(1, min(width, len(shown) - start))
        head = f"{self.span.source.name}:{line}:{column}: error: {self.message}"
        # Nothing to point at on an empty line.
        parts = [head, f"    {_printable(shown)}", f"    {indent}{carets}"] if text.strip() else [head]
        if self.hint:
            parts.append(f"  {self.hint}")
        return "\n".join([*parts, *(f"  {call}" for call in self.calls)])


def _clip(text: str, start: int, width: int) -> tuple[str, int]:
    """A window of a long line around the span, and the span's start inside it."""
    if len(text) <= LINE_WIDTH:
        return text, start
    first = max(0, min(start - 20, len(text) - LINE_WIDTH))
    return text[first : first + LINE_WIDTH], start - first


def _printable(text: str) -> str:
    """The text with control characters replaced, so that a binary file can't drive the terminal."""
    return "".join(char if char.isprintable() or char == "\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


class ProgramError(CnnError):
    """One or more independent errors in a program's text."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        found = tuple(diagnostics)
        files = list(dict.fromkeys(item.span.source.name for item in found))
        self.diagnostics = tuple(
            sorted(found, key=lambda item: (files.index(item.span.source.name), item.span.start, item.span.end))
        )
        super().__init__(self.render())

    def render(self) -> str:
        shown = [item.render() for item in self.diagnostics[:MAX_SHOWN]]
        if len(self.diagnostics) > MAX_SHOWN:
            shown.append(f"... and {len(self.diagnostics) - MAX_SHOWN} more errors")
        return "\n".join(shown)


class ShapeError(CnnError):
    """A shape rule that does not hold; ``attribute`` names the operand or attribute at fault."""

    def __init__(self, message: str, attribute: str = "", hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.attribute = attribute
        self.hint = hint


class CompileError(CnnError):
    """A kernel that does not meet the gates (spills, serialised wgmma) or does not compile."""
