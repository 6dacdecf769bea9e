"""Layer names: labels as given, else the keyword and a counter that also counts labelled layers; scopes of calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cnnc.frontend import ast
from cnnc.frontend.diagnostics import Diagnostics
from cnnc.source import Span

_MAX_PARTS = 100  # more than calls can nest


@dataclass(eq=False)
class Entry:
    """A name in a scope: a layer, a scope, or a scope that also has an output.

    ``layer`` is the full name of the layer that the name means, None for a scope that is still open.
    """

    span: Span
    order: int
    labelled: bool  # written in the text; only such names are seen from inner scopes
    layer: str | None = None
    scope: Scope | None = None


class Scope:
    """Names of one call, turn, head or of the whole program.

    ``parent`` is the scope whose labels are visible too, those with an ``order`` below ``limit``.
    """

    def __init__(
        self, prefix: str = "", parent: Scope | None = None, limit: int | None = None, head: bool = False
    ) -> None:
        self.prefix = prefix
        self.parent = parent
        self.limit = limit
        self.head = head
        self.entries: dict[str, Entry] = {}
        self._counts: dict[str, int] = {}

    def count(self, keyword: str) -> int:
        self._counts[keyword] = self._counts.get(keyword, 0) + 1
        return self._counts[keyword]

    def free_number(self, keyword: str) -> str:
        """``conv3`` for the third conv of the scope, or the next number that is free."""
        count = self.count(keyword)
        while f"{keyword}{count}" in self.entries:
            count += 1
        self._counts[keyword] = count
        return f"{keyword}{count}"

    def outward(self) -> Iterator[tuple[Scope, int | None]]:
        """This scope and those whose labels are visible in it, each with the limit of what is."""
        scope: Scope | None = self
        limit: int | None = None
        while scope is not None:
            yield scope, limit
            if scope.limit is not None:
                limit = scope.limit if limit is None else min(limit, scope.limit)
            scope = scope.parent


class Names:
    """All names of a program, and the scope that is current."""

    def __init__(self) -> None:
        self.root = Scope()
        self.scope = self.root
        self.order = 0

    @contextmanager
    def inside(self, scope: Scope) -> Iterator[None]:
        """Make a scope current for a while."""
        before, self.scope = self.scope, scope
        try:
            yield
        finally:
            self.scope = before

    def label(self, label: ast.Reference, keyword: str, diagnostics: Diagnostics) -> str:
        """Take a label for a layer; a second one of that name is an error and gets another name."""
        name, entry = self.labelled(label, keyword, diagnostics)
        entry.layer = name
        return name

    def labelled(self, label: ast.Reference, keyword: str, diagnostics: Diagnostics) -> tuple[str, Entry]:
        """Take a label for what will set the entry's layer or scope; the full name and the entry."""
        scope, last = self.scope, label.text
        if "." in last:
            scope, last = self._path(label, diagnostics)
        scope.count(keyword)
        # A full name can't be mistaken for another, whatever else is visible.
        earlier = scope.entries.get(last) or (self._shadowed(scope, last) if "." not in label.text else None)
        if earlier is not None:
            _refuse(label, earlier, diagnostics)
            last = _free(scope, last)
        return scope.prefix + last, self._add(scope, last, label.span, labelled=True)

    def automatic(self, keyword: str, span: Span) -> str:
        """The next name of a layer without label in the current scope, in full."""
        name, entry = self.numbered(keyword, span)
        entry.layer = name
        return name

    def numbered(self, keyword: str, span: Span) -> tuple[str, Entry]:
        """As ``automatic``, for what will set the entry's layer or scope."""
        name = self.scope.free_number(keyword)
        return self.scope.prefix + name, self._add(self.scope, name, span, labelled=False)

    def free(self, name: str, span: Span) -> str:
        """The name itself, or with ``_2``, ``_3``, ... where it is taken."""
        candidate = _free(self.scope, name)
        full = self.scope.prefix + candidate
        self._add(self.scope, candidate, span, labelled=True).layer = full
        return full

    def child(self, scope: Scope, name: str, span: Span) -> tuple[str, Entry]:
        """A new name in another scope: a number of a repetition."""
        return scope.prefix + name, self._add(scope, name, span, labelled=True)

    def _add(self, scope: Scope, name: str, span: Span, labelled: bool) -> Entry:
        self.order += 1
        entry = Entry(span, self.order, labelled)
        scope.entries[name] = entry
        return entry

    def _path(self, label: ast.Reference, diagnostics: Diagnostics) -> tuple[Scope, str]:
        """The scope of a full name such as ``stage1.2.conv1``, made if need be."""
        *parts, last = label.text.split(".")
        scope = self.root
        if len(parts) > _MAX_PARTS:
            diagnostics.add(label.span, f"a label with more than {_MAX_PARTS} points")
            return scope, self._spare(label)
        for part in parts:
            if part == "*":
                diagnostics.add(label.span, "`*` can't stand in a label")
                return self.root, self._spare(label)
            entry = scope.entries.get(part)
            if entry is None:
                entry = self._add(scope, part, label.span, labelled=True)
                entry.scope = Scope(f"{scope.prefix}{part}.", scope)
            if entry.scope is None:
                name = scope.prefix + part
                diagnostics.add(label.span, f"`{name}` is the layer in line {entry.span.line}, not a scope")
                return self.root, self._spare(label)
            scope = entry.scope
        if last == "*":
            diagnostics.add(label.span, "`*` can't stand in a label")
            return self.root, self._spare(label)
        return scope, last

    def _spare(self, label: ast.Reference) -> str:
        """A name for a layer whose label is refused."""
        return _free(self.root, label.text[:100].replace(".", "_").replace("*", "_"))

    def _shadowed(self, scope: Scope, name: str) -> Entry | None:
        """A label of that name that is visible from outside."""
        for outer, limit in scope.outward():
            entry = outer.entries.get(name)
            if outer is not scope and entry and entry.labelled and (limit is None or entry.order <= limit):
                return entry
        return None


def _free(scope: Scope, name: str) -> str:
    candidate, count = name, 1
    while candidate in scope.entries:
        count += 1
        candidate = f"{name}_{count}"
    return candidate


def _refuse(label: ast.Reference, earlier: Entry, diagnostics: Diagnostics) -> None:
    if earlier.span == label.span:
        hint = f"give the repetition a label, so that each turn has a `{label.text}` of its own"
        diagnostics.add(label.span, f"`{label.text}` would name a layer in every turn", hint)
        return
    line = earlier.span.line
    diagnostics.add(label.span, f"`{label.text}` is already the name of the layer in line {line}")
