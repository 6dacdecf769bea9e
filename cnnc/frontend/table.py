"""Layer statements in columns: label, body, assertion, comment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One line of output; ``free`` lines (defaults, comments) stand at the margin, outside the columns."""

    label: str = ""
    body: str = ""
    assertion: str = ""
    comment: str = ""
    free: bool = False


def align(lines: Sequence[Line]) -> list[str]:
    """The lines as text without new lines, each column as wide as its widest entry in the whole run."""
    table = [line for line in lines if not line.free]
    label_width = max((len(line.label) for line in table), default=0)
    body_width = max((len(line.body) for line in table if line.assertion), default=0)
    return [_render(line, label_width, body_width) for line in lines]


def _render(line: Line, label_width: int, body_width: int) -> str:
    text = line.body
    if not line.free:
        if line.assertion:
            text = f"{text:<{body_width}}  {line.assertion}"
        if label_width:
            text = f"{line.label:<{label_width}} {text}"
    if line.comment:
        text = f"{text}  {line.comment}" if text else line.comment
    return text.rstrip()
