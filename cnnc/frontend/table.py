"""Lines of output: statements in columns of label, body, assertion and comment, for each pair of braces apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One line of output; ``free`` lines (defaults, braces, comments) stand at the margin, outside the columns.

    Lines of one ``group`` share their columns; ``indent`` counts spaces.
    """

    label: str = ""
    body: str = ""
    assertion: str = ""
    comment: str = ""
    free: bool = False
    indent: int = 0
    group: int = 0


def align(lines: Sequence[Line]) -> list[str]:
    """The lines as text without new lines, each column as wide as its widest entry in the group."""
    labels: dict[int, int] = {}
    bodies: dict[int, int] = {}
    for line in lines:
        if not line.free:
            labels[line.group] = max(labels.get(line.group, 0), len(line.label))
            if line.assertion:
                bodies[line.group] = max(bodies.get(line.group, 0), len(line.body))
    return [_render(line, labels.get(line.group, 0), bodies.get(line.group, 0)) for line in lines]


def _render(line: Line, label_width: int, body_width: int) -> str:
    text = line.body
    if not line.free:
        if line.assertion:
            text = f"{text:<{body_width}}  {line.assertion}"
        if label_width:
            text = f"{line.label:<{label_width}} {text}"
    if line.comment:
        text = f"{text}  {line.comment}" if text else line.comment
    return (" " * line.indent + text).rstrip()
