"""Layers read by name: which full name a reference means at its place, and why it means none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cnnc.frontend import ast, vocabulary
from cnnc.frontend.diagnostics import Diagnostics
from cnnc.frontend.names import Entry, Names, Scope
from cnnc.source import Span


class References:
    """Looks names up in the current scope and outward from it."""

    def __init__(self, names: Names, labels: Mapping[str, Span], diagnostics: Diagnostics) -> None:
        self.names = names
        self.labels = labels  # where each label of the text stands
        self.diagnostics = diagnostics

    def is_layer(self, name: str) -> bool:
        """Whether a name is that of a layer here or further out."""
        return any(name in scope.entries for scope, _ in self.names.scope.outward())

    def one(self, reference: ast.Reference) -> str | None:
        """The layer's full name; None after noting why there is none."""
        if "*" in reference.text:
            message = "`*` stands only in what `add`, `concat` and `mul` read"
            self.diagnostics.add(reference.span, message, "name one layer here")
            return None
        found = self.many(reference)
        return found[0] if found else None

    def many(self, reference: ast.Reference) -> list[str]:
        """The full names of all layers that match, in order; none after noting why."""
        if reference.text == "input":
            return ["input"]
        first, *rest = reference.text.split(".")
        entry = self._outward(first, reference)
        found = [entry] if entry else []
        scope_name = first
        for part in rest:
            inner = [child for entry in found for child in self._inside(entry, part, reference)]
            if found and not inner:
                self._missing(found, part, scope_name, reference)
            found, scope_name = inner, f"{scope_name}.{part}"
        layers = [entry.layer for entry in found]
        if None in layers:
            self._no_layer(reference, found[layers.index(None)])
            return []
        return [layer for layer in layers if layer is not None]

    def _outward(self, name: str, reference: ast.Reference) -> Entry | None:
        """The entry of a name's first part: here any, further out only labels that the block saw."""
        hidden: Entry | None = None
        for scope, limit in self.names.scope.outward():
            entry = scope.entries.get(name)
            if entry is None:
                continue
            if scope is self.names.scope or (entry.labelled and (limit is None or entry.order <= limit)):
                return entry
            hidden = entry
        self._unknown(name, reference, hidden)
        return None

    def _inside(self, entry: Entry, part: str, reference: ast.Reference) -> Sequence[Entry]:
        """What ``part`` names in an entry's scope; ``*`` is every number of a repetition."""
        scope = entry.scope
        if scope is None:
            return []
        if scope.head and not _encloses(scope, self.names.scope):
            message = f"`{scope.prefix[:-1]}` is a training head; only the head itself reads its layers"
            self.diagnostics.add(reference.span, message)
            return []
        if part == "*":
            return [child for name, child in scope.entries.items() if name.isdigit()]
        return [scope.entries[part]] if part in scope.entries else []

    # -- what is wrong ----------------------------------------------------------------------------

    def _unknown(self, name: str, reference: ast.Reference, hidden: Entry | None) -> None:
        if hidden is not None:
            line = hidden.span.line
            hint = "a block sees the labels that stand before it"
            if not hidden.labelled:
                hint = "only labels are seen from inside a block, a head or a repetition; give the layer one"
            self.diagnostics.add(reference.span, f"`{name}` in line {line} is not visible here", hint)
            return
        label = self.labels.get(name)
        if label is not None and label.source == reference.span.source:
            line = label.line
            if label.start > reference.span.start:
                message = f"`{name}` stands only in line {line}"
                self.diagnostics.add(reference.span, message, "a layer is read behind the line that has its label")
            else:
                hint = f"outside it is read as `label.{name}`, with the label of the call, repetition or head"
                self.diagnostics.add(reference.span, f"`{name}` in line {line} is inside a scope of its own", hint)
            return
        known = [name for scope, _ in self.names.scope.outward() for name in scope.entries]
        likely = vocabulary.suggestion(name, known[-200:])
        hint = "a layer is read by its label or counted name, such as `conv3`, behind its line"
        hint = f"did you mean `{likely}`?" if likely else hint
        self.diagnostics.add(reference.span, f"no layer `{reference.text}` stands before this line", hint)

    def _missing(self, found: Sequence[Entry], part: str, name: str, reference: ast.Reference) -> None:
        scopes = [entry.scope for entry in found if entry.scope is not None]
        if any(scope.head for scope in scopes):
            return  # noted
        if not scopes:
            message = f"`{name}` is one layer, without inner names"
        elif part == "*" and not any(scope.entries for scope in scopes):
            message = f"`{name}.*` matches nothing: `{name}` has no turns"
        elif part == "*":
            message = f"`{name}.*` matches nothing: `{name}` is no repetition"
        else:
            message = f"`{name}` has no layer `{part}`"
        known = list(dict.fromkeys(inner for scope in scopes for inner in scope.entries))
        self.diagnostics.add(reference.span, message, f"it has {', '.join(known[:8])}" if known else None)

    def _no_layer(self, reference: ast.Reference, entry: Entry) -> None:
        if entry.scope is not None and entry.scope.head:
            self.diagnostics.add(reference.span, f"`{reference.text}` is a training head, which nothing else reads")
            return
        inner = list(entry.scope.entries)[:8] if entry.scope else []
        message = f"`{reference.text}` has no output yet at this line"
        self.diagnostics.add(reference.span, message, f"it has {', '.join(inner)}" if inner else None)


def _encloses(outer: Scope, inner: Scope) -> bool:
    return any(scope is outer for scope, _ in inner.outward())


def labels_of(body: Sequence[ast.Item], found: dict[str, Span] | None = None) -> Mapping[str, Span]:
    """Where each label stands in the text, the first of its name."""
    found = {} if found is None else found
    for item in body:
        if isinstance(item, ast.Statement) and item.label:
            found.setdefault(item.label.text.split(".")[0], item.label.span)
        if isinstance(item, (ast.Block, ast.Repeat, ast.Head)):
            labels_of(item.body, found)
        elif isinstance(item, ast.Merge):
            for arm in item.arms:
                labels_of(arm.body, found)
    return found
