"""Collects independent errors, to raise them together."""

from __future__ import annotations

from cnnc.errors import Diagnostic, ProgramError
from cnnc.source import Span

MAX_ERRORS = 100
MAX_QUOTE = 40


class TooManyErrors(Exception):
    """Enough errors to stop; never leaves the frontend."""


class Diagnostics:
    """Errors found so far in one program."""

    def __init__(self) -> None:
        self.found: list[Diagnostic] = []
        self._count = 0

    def add(self, span: Span, message: str, hint: str | None = None) -> None:
        """Note an error, once.

        Raises:
            TooManyErrors: the text is hopeless; what was found so far is enough to show.
        """
        diagnostic = Diagnostic(span, _clipped(message), _clipped(hint) if hint else None)
        if diagnostic not in self.found:
            self.found.append(diagnostic)
        self._count += 1
        if self._count >= MAX_ERRORS:
            raise TooManyErrors

    def raise_any(self) -> None:
        """Raises:
        ProgramError: with all errors found, if any.
        """
        if self.found:
            raise ProgramError(self.found)


def _clipped(text: str) -> str:
    """Quoted words of the program cut to a readable length."""
    parts = text.split("`")
    quoted = [part if len(part) <= MAX_QUOTE else part[:MAX_QUOTE] + "..." for part in parts[1::2]]
    parts[1::2] = quoted
    return "`".join(parts)
