"""Collects independent errors, to raise them together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cnnc.errors import Diagnostic, ProgramError
from cnnc.source import Span

MAX_ERRORS = 100
MAX_QUOTE = 40
_MAX_CHAIN = 3  # calls shown of a long chain


class TooManyErrors(Exception):
    """Enough errors to stop; never leaves the frontend."""


class Diagnostics:
    """Errors found so far in one program, each with the calls that it was found in."""

    def __init__(self) -> None:
        self.found: list[Diagnostic] = []
        self._chain: list[tuple[str, Span]] = []
        self._places: set[tuple[Span, str]] = set()

    @contextmanager
    def calling(self, call: str, span: Span) -> Iterator[None]:
        """While a block's body is read: ``call`` as messages show it, and where it stands."""
        self._chain.append((call, span))
        try:
            yield
        finally:
            self._chain.pop()

    def add(self, span: Span, message: str, hint: str | None = None) -> None:
        """Note an error, once: inside blocks one error for each place in the text, whichever call comes first.

        Raises:
            TooManyErrors: the text is hopeless; what was found so far is enough to show.
        """
        if (span, message) in self._places or (self._chain and (span, "") in self._places):
            return
        self._places |= {(span, message), (span, "")}
        found = Diagnostic(span, _clipped(message), _clipped(hint) if hint else None, self._calls(span))
        self.found.append(found)
        if len(self.found) >= MAX_ERRORS:
            raise TooManyErrors

    def _calls(self, span: Span) -> tuple[str, ...]:
        """The calls around, the innermost first."""
        shown: list[str] = []
        for call, place in reversed(self._chain):
            line = f"line {place.line}" if place.source == span.source else f"{place.source.name}:{place.line}"
            shown.append(f"in {_clipped(call)}, called from {line}")
        if len(shown) > _MAX_CHAIN:
            shown[1:-1] = [f"... {len(shown) - 2} calls between"]
        return tuple(shown)

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
