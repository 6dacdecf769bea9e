"""``cnnc fmt``: the same program in one way of writing, comments kept where they stood."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from cnnc.frontend import ast
from cnnc.frontend.table import Line, align
from cnnc.frontend.text import item_line
from cnnc.source import Source

_INDENT = "  "


@dataclass(frozen=True)
class _Piece:
    """Something to print and the source line it stood on; braces stand alone on their line."""

    source_line: int
    line: Line
    depth: int
    alone: bool = False


def format_program(program: ast.Program) -> str:
    """Text that parses to an equal tree.

    Statements keep their lines (several on one line are joined by ``;``), blank lines are kept up to one,
    labels, bodies and assertions of layers without a blank line between them stand in columns.
    """
    rows = list(_with_comments(_pieces(program), program.source))
    paragraphs: list[str] = []
    for blank, group in groupby(rows, key=lambda row: row is None):
        if not blank:
            paragraphs.append(_paragraph([row for row in group if row is not None]))
    return "\n".join(paragraphs)


def _pieces(program: ast.Program) -> Iterator[_Piece]:
    for item in program.items:
        if not isinstance(item, ast.Train):
            yield _Piece(item.span.line, item_line(item), 0)
            continue
        yield _Piece(item.span.line, Line(body="train {", free=True), 0, alone=True)
        for setting in item.settings:
            assert isinstance(setting, ast.Setting)
            yield _Piece(setting.span.line, item_line(setting), 1)
        last = program.source.line_column(item.span.end - 1)[0]
        yield _Piece(last, Line(body="}", free=True), 0, alone=True)


def _with_comments(pieces: Iterator[_Piece], source: Source) -> Iterator[_Piece | None]:
    """Rows of output in order, None for a blank line; comments behind the row they stood behind, or alone."""
    waiting: _Piece | None = None
    at = 1
    for piece in [*pieces, None]:
        if waiting is not None and piece is not None and _joins(waiting, piece):
            waiting = replace(waiting, line=_join(waiting.line, piece.line))
            continue
        if waiting is not None:
            last = piece is None or piece.source_line > waiting.source_line
            comment = _comment(source, waiting.source_line) if last else ""
            yield replace(waiting, line=replace(waiting.line, comment=comment))
            at = waiting.source_line + 1 if last else waiting.source_line
        depth = waiting.depth if waiting is not None else 0
        if waiting is not None and waiting.line.body == "train {":
            depth = 1
        end = piece.source_line if piece is not None else len(source.line_starts) + 1
        yield from _between(source, at, end, depth)
        waiting = piece


def _joins(first: _Piece, second: _Piece) -> bool:
    return first.source_line == second.source_line and not first.alone and not second.alone


def _join(first: Line, second: Line) -> Line:
    """Two statements on one line; the first one's assertion moves into the body."""
    body = f"{first.body} {first.assertion}".rstrip() + f"; {second.label} {second.body}".replace(";  ", "; ")
    return Line(first.label, body, second.assertion, free=first.free and second.free)


def _between(source: Source, first: int, end: int, depth: int) -> Iterator[_Piece | None]:
    """Comments and blank lines of the source lines ``first <= line < end``, which hold no statement's start."""
    for number in range(first, end):
        comment = _comment(source, number)
        if comment:
            yield _Piece(number, Line(comment=comment, free=True), depth)
        elif not source.line_text(number).strip():
            yield None


def _comment(source: Source, line: int) -> str:
    """``#`` always starts a comment: the language has no strings."""
    text = source.line_text(line)
    at = text.find("#")
    return text[at:].rstrip() if at >= 0 else ""


def _paragraph(rows: list[_Piece]) -> str:
    lines = align([row.line for row in rows])
    return "".join(f"{_INDENT * row.depth}{line}\n" for row, line in zip(rows, lines, strict=True))
