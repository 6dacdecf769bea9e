"""Structure to a flat sequence of layers with full names: blocks called, repetitions unrolled, references found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from cnnc.frontend import ast, vocabulary
from cnnc.frontend.blocks import Block, Blocks, bind, shown_call
from cnnc.frontend.definitions import Definitions
from cnnc.frontend.diagnostics import Diagnostics
from cnnc.frontend.layer_parts import Place
from cnnc.frontend.layers import HeadEnd, HeadStart, Resolved
from cnnc.frontend.merges import lone_shortcut, merge
from cnnc.frontend.names import Entry, Names, Scope
from cnnc.frontend.order import spell_out
from cnnc.frontend.references import References, labels_of
from cnnc.frontend.settings import check_real
from cnnc.frontend.substitute import BadValue, Bindings, Bound
from cnnc.frontend.walk import Walk


def resolve(
    program: ast.Program,
    names: Names,
    diagnostics: Diagnostics,
    consume: Callable[[Resolved], None],
    sequence: bool = False,
) -> None:
    """Hand a program's layers to ``consume`` one by one and in order.

    Who consumes a layer takes names in between (a flatten before fc): the current scope is the layer's.
    In a ``sequence`` (a 1-D net) windows have one extent.
    """
    references = References(names, labels_of(program.items), diagnostics)
    blocks = Blocks(program.items, diagnostics)
    walk = Walk(names, references, blocks, diagnostics, consume, sequence)
    resolver = _Resolver(program, walk, Definitions(walk))
    for item in program.items:
        resolver.item(item)


class _Resolver:
    def __init__(self, program: ast.Program, walk: Walk, definitions: Definitions) -> None:
        self.program = program
        self.walk = walk
        self.definitions = definitions
        self.diagnostics = walk.diagnostics
        self.names = walk.names

    def item(self, item: ast.Item) -> None:
        """One item of the program itself."""
        if isinstance(item, ast.Order):
            self._order(item)
        elif isinstance(item, ast.Head):
            self._head(item)
        elif isinstance(item, (ast.Block, ast.Use)):
            self.definitions.add(item, self.walk.blocks)
        elif not isinstance(item, (ast.ModelName, ast.InputShape, ast.Widths, ast.Classes, ast.Train)):
            self._inner(item)

    def _body(self, items: Sequence[ast.Inner]) -> None:
        for item in items:
            if isinstance(item, ast.Head):
                self.diagnostics.add(item.name.span, "a head stands outside blocks, arms, repetitions and other heads")
            else:
                self._inner(item)

    def _inner(self, item: ast.Inner) -> None:
        self.walk.step(item.span)
        if isinstance(item, ast.Layer):
            self._layer(item)
        elif isinstance(item, ast.Call):
            self._call(item)
        elif isinstance(item, ast.Merge):
            merge(self.walk, item, self._body)
        elif isinstance(item, ast.Repeat):
            self._repeat(item)
        elif isinstance(item, ast.From):
            self._from(item)
        elif isinstance(item, ast.Default):
            self.definitions.default(item)
        elif isinstance(item, ast.Broken):
            self._broken(item)

    # -- layers -----------------------------------------------------------------------------------

    def _layer(self, item: ast.Layer) -> None:
        keyword = item.keyword.text
        if keyword == "shortcut":
            lone_shortcut(self.walk, item)
            return
        if keyword == "identity":
            hint = "it stands alone behind the `|` of an arm"
            self.diagnostics.add(item.keyword.span, "`identity` is an arm of its own", hint)
            self.walk.lost(item.span)
            return
        self.walk.refuse_modifiers(item)
        last = self.walk.count(item.times)
        for turn, (name, entry) in enumerate(self.walk.turns(item, keyword, item.keyword.span), 1):
            entry.layer = name
            self.walk.step(item.span)
            self._one_layer(replace(item, assertion=item.assertion if turn == last else None), name)

    def _one_layer(self, item: ast.Layer, name: str) -> None:
        try:
            found = self.walk.substitution.layer(item)
            if isinstance(found.argument, ast.Reference):
                target = self.walk.references.one(found.argument)
                if target is None:
                    raise BadValue
                found = replace(found, argument=replace(found.argument, target=target))
        except BadValue:
            self.walk.fail(self.walk.place(item, name, item.keyword.span))
            return
        for layer in self.walk.statements.layer(found, name):
            self.walk.emit(layer)

    def _order(self, order: ast.Order) -> None:
        widths = next((item for item in self.program.items if isinstance(item, ast.Widths)), None)
        classes = next((item for item in self.program.items if isinstance(item, ast.Classes)), None)
        for letter in spell_out(order, widths, classes, self.names, self.diagnostics):
            if letter is None:
                self.walk.lost(order.span)
            else:
                self.walk.emit(self.walk.statements.letter(letter))

    def _broken(self, item: ast.Broken) -> None:
        """A statement with a syntax error; its label, if it has one, is good for references."""
        defaults = self.walk.statements.defaults
        if item.word in vocabulary.DEFAULTS:
            defaults.broken.add(item.word)
        if item.word in (*vocabulary.DEFAULTS, *vocabulary.HEAD) and item.word not in ("Order", "from"):
            return
        self.walk.lost(item.span)
        label = ast.Reference(item.word, item.span)
        if item.span.text[len(item.word) :].lstrip().startswith(":") and item.word not in self.names.scope.entries:
            self.names.labelled(label, "?", self.diagnostics)[1].layer = self.walk.flow

    def _from(self, item: ast.From) -> None:
        source = self.walk.references.one(item.source)
        if source is None:
            self.walk.lost(item.span)
        else:
            self.walk.read(source, item.span)

    # -- calls ------------------------------------------------------------------------------------

    def _call(self, item: ast.Call, given: tuple[str, Entry] | None = None) -> None:
        """A call; ``given`` is its scope's name if that is already taken, by a turn of a repetition."""
        block = self.walk.blocks.find(item.name, self.walk.rank)
        first, last = self._modifiers(item)
        count = self.walk.count(item.times)
        turns = self.walk.turns(item, item.name.text, item.name.span) if given is None else iter([given])
        for turn, (name, entry) in enumerate(turns, 1):
            self.walk.step(item.span)
            extra = [*(first if turn == 1 else ()), *(last if turn == count else ())]
            try:
                if block is None:
                    raise BadValue
                bound = bind(block, item, extra, self.walk.substitution)
                self._expand(block, bound, item, (name, entry))
            except BadValue:
                self.walk.fail(Place(name, item.name.span, item.span))
            entry.layer = self.walk.flow
        self.walk.check_shape(item, item.label.text if item.label else item.name.text)

    def _modifiers(self, item: ast.Call) -> tuple[Sequence[ast.Argument], Sequence[ast.Argument]]:
        """The arguments of ``first(...)`` and ``last(...)``."""
        found: dict[str, Sequence[ast.Argument]] = {}
        for modifier in item.times.modifiers if item.times else ():
            if modifier.which.text in found:
                self.diagnostics.add(modifier.which.span, f"`{modifier.which.text}` is given twice")
            found[modifier.which.text] = modifier.arguments
        return found.get("first", ()), found.get("last", ())

    def _expand(self, block: Block, bound: Bindings, item: ast.Call, named: tuple[str, Entry]) -> None:
        """A block's body in a scope of its own, in the surroundings of its definition."""
        name, entry = named
        entry.scope = Scope(f"{name}.", block.scope, block.limit)
        walk = self.walk
        before = walk.bindings, walk.blocks, walk.rank, walk.statements.defaults
        walk.bindings, walk.blocks, walk.rank = bound, block.blocks, block.rank
        walk.statements.defaults = block.defaults
        calling = self.diagnostics.calling(shown_call(block, bound), item.span)
        with calling, self.names.inside(entry.scope), walk.body(item.span):
            self._body(block.definition.body)
        walk.bindings, walk.blocks, walk.rank, walk.statements.defaults = before

    # -- repetitions and heads --------------------------------------------------------------------

    def _repeat(self, item: ast.Repeat) -> None:
        if item.times is not None:
            self.diagnostics.add(item.times.span, "`repeat` says how often at its start, not behind its body")
        try:
            turns = self._range(item)
        except BadValue:
            self.walk.lost(item.span)
            return
        if item.label is None:
            for turn in turns:
                self._turn(item, turn)
        else:
            self._labelled_turns(item, item.label, turns)
        self.walk.check_shape(item, item.label.text if item.label else "repeat")

    def _range(self, item: ast.Repeat) -> range:
        if item.count is not None:
            return range(self.walk.substitution.integer(item.count, 0, "a repetition"))
        assert item.counter is not None and item.low is not None and item.high is not None
        if item.counter.text in self.walk.bindings:
            self.diagnostics.add(item.counter.span, f"`{item.counter.text}` already has a value here")
            raise BadValue
        low, high = (self.walk.substitution.integer(end) for end in (item.low, item.high))
        if high < low - 1:
            message = f"the counter would go down, from {low} to {high}"
            self.diagnostics.add(item.low.span.to(item.high.span), message, "both ends belong to the range")
            raise BadValue
        return range(low, high + 1)

    def _labelled_turns(self, item: ast.Repeat, label: ast.Reference, turns: range) -> None:
        """Each turn in a scope ``label.1``, ``label.2``, ...; a single call's scope is the turn's own."""
        name, whole = self.names.labelled(label, "repeat", self.diagnostics)
        whole.scope = Scope(f"{name}.", self.names.scope)
        single = item.body[0] if len(item.body) == 1 else None
        for number, turn in enumerate(turns, 1):
            full, entry = self.names.child(whole.scope, str(number), label.span)
            if isinstance(single, ast.Call) and single.label is None and single.times is None:
                with self._counting(item, turn):
                    self._call(single, (full, entry))
            else:
                entry.scope = Scope(f"{full}.", self.names.scope)
                with self.names.inside(entry.scope):
                    self._turn(item, turn)
            whole.layer = entry.layer = self.walk.flow

    def _turn(self, item: ast.Repeat, turn: int) -> None:
        with self._counting(item, turn):
            self._body(item.body)

    @contextmanager
    def _counting(self, item: ast.Repeat, turn: int) -> Iterator[None]:
        """One turn: its counter has a value, its default lines hold until its end."""
        self.walk.step(item.span)
        before = self.walk.bindings
        if item.counter is not None:
            bound: dict[str, Bound] = {**before, item.counter.text: turn}
            self.walk.bindings = bound
        with self.walk.body(item.span):
            yield
        self.walk.bindings = before

    def _head(self, item: ast.Head) -> None:
        if item.name.text == "output":
            self.diagnostics.add(item.name.span, "`output` is the name of the program's own output")
        weight: float | None = 1.0
        if item.weight is not None:
            try:
                weight = check_real(self.walk.substitution.real(item.weight), "a head's weight", self.diagnostics)
            except BadValue:
                weight = None
        label = ast.Reference(item.name.text, item.name.span)
        name, entry = self.names.labelled(label, "head", self.diagnostics)
        entry.scope = Scope(f"{name}.", self.names.scope, head=True)
        place = Place(name, item.name.span, item.span)
        before = self.walk.flow
        self.walk.emit(HeadStart(place, name, 1.0 if weight is None else weight))
        with self.names.inside(entry.scope), self.walk.body(item.span):
            self._body(item.body)
        if self.walk.flow == before:
            self.diagnostics.add(item.name.span, f"the head `{name}` has no layers")
        self.walk.emit(HeadEnd(place, name))
        self.walk.flow = before
