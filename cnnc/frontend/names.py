"""Layer names: labels as given, else the keyword and a counter that also counts labelled layers."""

from __future__ import annotations

from cnnc.frontend import ast
from cnnc.frontend.diagnostics import Diagnostics
from cnnc.source import Span


class Names:
    """Names of one scope, each with the place that took it."""

    def __init__(self) -> None:
        self._taken: dict[str, Span] = {}
        self._counts: dict[str, int] = {}

    def label(self, label: ast.Reference, keyword: str, diagnostics: Diagnostics) -> str:
        """Take a label; a second layer of that name is an error and gets another name."""
        self._counts[keyword] = self._counts.get(keyword, 0) + 1
        earlier = self._taken.get(label.text)
        if earlier is not None:
            line = earlier.line
            diagnostics.add(label.span, f"`{label.text}` is already the name of the layer in line {line}")
            return self.free(label.text, label.span)
        self._taken[label.text] = label.span
        return label.text

    def automatic(self, keyword: str, span: Span) -> str:
        """``conv3`` for the third conv of the scope, or the next number that is free."""
        count = self._counts.get(keyword, 0) + 1
        while f"{keyword}{count}" in self._taken:
            count += 1
        self._counts[keyword] = count
        name = f"{keyword}{count}"
        self._taken[name] = span
        return name

    def free(self, name: str, span: Span) -> str:
        """The name itself, or with ``_2``, ``_3``, ... where it is taken."""
        candidate, count = name, 1
        while candidate in self._taken:
            count += 1
            candidate = f"{name}_{count}"
        self._taken[candidate] = span
        return candidate
