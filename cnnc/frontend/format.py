"""``cnnc fmt``: the same program in one way of writing, comments kept where they stood."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from cnnc.frontend import ast
from cnnc.frontend.table import Line, align
from cnnc.frontend.text import assertion_text, factor_text, head_text, inline, item_line, tail_text
from cnnc.source import Source, Span

_INDENT = 2
_BEFORE_COMMENT = re.compile(r'(?:[^"#]|"[^"]*"|")*')

Braced = ast.Merge | ast.Repeat | ast.Head | ast.Block


@dataclass(frozen=True)
class _Row:
    """A line of output and the lines of the source that it comes from."""

    line: Line
    first: int
    last: int
    closes: bool = False  # a closing brace: comments before it belong to the body
    verbatim: bool = False  # has its comment in it


def format_program(program: ast.Program) -> str:
    """Text that parses to an equal tree.

    Statements keep their lines (several on one line are joined by ``;``, what stands in braces on one line stays
    there), blank lines are kept up to one; labels, bodies and assertions of statements without a blank line
    between them stand in columns.
    """
    rows = _Rows(program.source)
    rows.items(program.items, 0)
    lines = list(_with_comments(rows.rows, program.source))
    paragraphs: list[str] = []
    for blank, group in groupby(lines, key=lambda line: line is None):
        if not blank:
            paragraphs.append("".join(f"{text}\n" for text in align([line for line in group if line is not None])))
    return "\n".join(paragraphs)


class _Rows:
    """The program's lines, comments left out."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.rows: list[_Row] = []
        self._groups = 0

    def items(self, body: Sequence[ast.Item], indent: int, group: int = 0, prefix: str = "", first: int = 0) -> None:
        """A body's statements; ``prefix`` and the source line ``first`` are those of an arm's ``|``."""
        for place, item in enumerate(body):
            start = first if place == 0 and prefix else item.span.line
            self._item(item, indent, group, "" if place else prefix, start, join=place > 0)

    def _item(self, item: ast.Item, indent: int, group: int, prefix: str, first: int, join: bool) -> None:
        last = self._last_line(item.span)
        # An arm's first line starts at the `|`, which is part of it.
        margin = indent - len(prefix.split(" ", 1)[0] + " ") if prefix else indent
        if isinstance(item, ast.Train):
            self._train(item, indent, join)
        elif item.span.line == last:
            line = item_line(item) if not prefix else Line(body=prefix + inline(item), free=True)
            self._put(replace(line, indent=margin, group=group), first, last, join)
        elif isinstance(item, Braced):
            label = f"{item.label.text}: " if isinstance(item, ast.Statement) and item.label else ""
            opening = Line(body=f"{prefix}{label}{head_text(item)} {{", free=True, indent=margin)
            self._put(opening, first, item.span.line, join)
            self._body(item, indent)
            tail = tail_text(item) if isinstance(item, ast.Statement) else ""
            assertion = f"  {assertion_text(item)}" if isinstance(item, ast.Statement) and item.assertion else ""
            closing = Line(body="}" + tail + assertion, free=True, indent=indent)
            self.rows.append(_Row(closing, last, last, closes=True))
        else:
            self._verbatim(item, prefix, margin, first, join)

    def _body(self, item: Braced, indent: int) -> None:
        if not isinstance(item, ast.Merge):
            self._groups += 1
            self.items(item.body, indent + _INDENT, self._groups)
            return
        for arm in item.arms:
            self._groups += 1
            prefix = "| " + factor_text(arm)
            self.items(arm.body, indent + _INDENT, self._groups, prefix, arm.span.line)

    def _train(self, item: ast.Train, indent: int, join: bool) -> None:
        self._put(Line(body="train {", free=True, indent=indent), item.span.line, item.span.line, join)
        for place, setting in enumerate(item.settings):
            assert isinstance(setting, ast.Setting)
            number = setting.span.line
            self._put(replace(item_line(setting), indent=indent + _INDENT), number, number, join=place > 0)
        last = self._last_line(item.span)
        self.rows.append(_Row(Line(body="}", free=True, indent=indent), last, last, closes=True))

    def _verbatim(self, item: ast.Item, prefix: str, indent: int, first: int, join: bool) -> None:
        """A statement over several lines, a table in brackets: its lines stay, the inner ones indented."""
        text = inline(item)
        lines = [line.strip() for line in item.span.text.split("\n")]
        # Only what is in the brackets is as it was.
        lines[0] = f"{text.split('[')[0]}[{lines[0].partition('[')[2].lstrip()}"
        lines[-1] = f"{lines[-1].rpartition(']')[0].rstrip()}]{text.rpartition(']')[2]}".replace(" =>", "  =>")
        number = item.span.line
        self._put(Line(body=prefix + lines[0], free=True, indent=indent), first, number, join, verbatim=True)
        for offset, text in enumerate(lines[1:-1], 1):
            inner = Line(body=text, free=True, indent=indent + len(prefix) + _INDENT)
            if text:
                self.rows.append(_Row(inner, number + offset, number + offset, verbatim=True))
        last = number + len(lines) - 1
        closing = Line(body=lines[-1], free=True, indent=indent + len(prefix))
        self.rows.append(_Row(closing, last, last))

    def _put(self, line: Line, first: int, last: int, join: bool, verbatim: bool = False) -> None:
        before = self.rows[-1] if join else None
        if before is not None and before.last == first:
            line, first = _join(before.line, line), before.first
            self.rows[-1] = _Row(line, first, last, before.closes, verbatim)
        else:
            self.rows.append(_Row(line, first, last, verbatim=verbatim))

    def _last_line(self, span: Span) -> int:
        # Some rules take the new line behind them.
        return self.source.line_column(span.start + max(0, len(span.text.rstrip()) - 1))[0]


def _join(first: Line, second: Line) -> Line:
    """Two statements on one line; the first one's assertion moves into the body."""
    words = [part for part in (second.label, second.body) if part]
    body = " ".join(part for part in (first.body, first.assertion) if part) + "; " + " ".join(words)
    free = first.free and second.free
    if first.free and second.assertion:
        return replace(first, body=f"{body}  {second.assertion}")
    return replace(first, body=body, assertion=second.assertion, free=free or first.free)


def _with_comments(rows: Sequence[_Row], source: Source) -> Iterator[Line | None]:
    """Lines of output in order, None for a blank one; comments behind the row they stood behind, or alone."""
    at = 1
    for index, row in enumerate(rows):
        following = rows[index + 1] if index + 1 < len(rows) else None
        indent = row.line.indent + (_INDENT if row.closes else 0)
        yield from _between(source, at, row.first, row.last, indent)
        attached = not row.verbatim and (following is None or following.last > row.last)
        yield replace(row.line, comment=_comment(source, row.last)) if attached else row.line
        at = row.last + 1 if attached or row.verbatim else row.last
    yield from _between(source, at, len(source.line_starts) + 1, len(source.line_starts) + 1, 0)


def _between(source: Source, at: int, first: int, last: int, indent: int) -> Iterator[Line | None]:
    """Comments and blank lines of the source before the line ``last``; blank ones only before ``first``."""
    for number in range(at, last):
        comment = _comment(source, number)
        if comment:
            yield Line(comment=comment, free=True, indent=indent)
        elif number < first and not source.line_text(number).strip():
            yield None


def _comment(source: Source, line: int) -> str:
    """The comment of a source line; ``#`` starts one anywhere but between quotes."""
    text = source.line_text(line)
    match = _BEFORE_COMMENT.match(text)
    return text[match.end() :].rstrip() if match else ""
