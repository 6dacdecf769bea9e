"""What is in force at one point of a program while it is read: names, parameters, defaults, the current value."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cnnc.frontend import ast
from cnnc.frontend.blocks import Blocks
from cnnc.frontend.diagnostics import Diagnostics
from cnnc.frontend.expressions import dims
from cnnc.frontend.layer_parts import Place
from cnnc.frontend.layers import CheckShape, FailedLayer, FromLayer, HeadEnd, HeadStart, Resolved
from cnnc.frontend.names import Entry, Names, Scope
from cnnc.frontend.order import MAX_LAYERS
from cnnc.frontend.references import References
from cnnc.frontend.statements import Statements
from cnnc.frontend.substitute import BadValue, Bindings, Substitution
from cnnc.source import Span

# Statements and turns that one program may come to, those that give no layer too.
MAX_STEPS = 4 * MAX_LAYERS
# Calls, merges and repetitions inside each other; later stages recurse over them.
MAX_NESTING = 50

Statement = ast.Layer | ast.Call | ast.Merge | ast.Repeat


class Walk:
    """The state of one reading; ``emit`` hands every flat item on at once."""

    def __init__(
        self,
        names: Names,
        references: References,
        blocks: Blocks,
        diagnostics: Diagnostics,
        consume: Callable[[Resolved], None],
        sequence: bool,
    ) -> None:
        self.names = names
        self.references = references
        self.diagnostics = diagnostics
        self.statements = Statements(diagnostics, sequence)
        self.blocks = blocks
        self.rank: int | None = None  # which of the blocks are visible, None for all
        self.bindings: Bindings = {}
        self.flow = "input"  # full name of what the next layer reads
        self.nesting = 0
        self._consume = consume
        self._layers = 0
        self._steps = 0
        self._failures = 0

    @property
    def substitution(self) -> Substitution:
        return Substitution(self.bindings, self.diagnostics, self.references.is_layer)

    # -- flat items -------------------------------------------------------------------------------

    def emit(self, layer: Resolved) -> None:
        """Hand a flat item on."""
        self._layers += 1
        if self._layers > MAX_LAYERS:
            self._stop(layer.place.head, f"the program has more than {MAX_LAYERS:,} layers")
        self._consume(layer)
        if isinstance(layer, FromLayer):
            self.flow = layer.source
        elif not isinstance(layer, (HeadStart, HeadEnd, CheckShape)):
            self.flow = layer.place.name

    def fail(self, place: Place) -> None:
        """A layer whose errors are noted."""
        self.emit(FailedLayer(place))

    def lost(self, span: Span) -> None:
        """What gives no layer because of an error that is noted."""
        self._failures += 1
        self.fail(Place(f"?{self._failures}", span, span))

    def read(self, source: str, span: Span) -> None:
        """Go on from that layer."""
        if self.flow != source:
            self.emit(FromLayer(Place("", span, span), source))

    def check_shape(self, item: Statement, name: str) -> None:
        """The assertion behind what has given several layers."""
        if item.assertion is not None:
            self.emit(CheckShape(self.place(item, name)))

    def place(self, item: Statement, name: str, head: Span | None = None) -> Place:
        shape = dims(item.assertion, self.diagnostics, "a shape") if item.assertion else None
        assertion_span = item.assertion.span if item.assertion else None
        return Place(name, head or item.span, item.span, {}, shape, assertion_span)

    # -- bounds -----------------------------------------------------------------------------------

    def step(self, span: Span) -> None:
        """Count a statement or turn."""
        self._steps += 1
        if self._steps > MAX_STEPS:
            self._stop(span, f"the program comes to more than {MAX_STEPS:,} statements")

    def _stop(self, span: Span, message: str) -> None:
        self.diagnostics.add(span, message, "counted with every call and turn of a repetition")
        self.diagnostics.raise_any()

    @contextmanager
    def body(self, span: Span) -> Iterator[None]:
        """Inside braces or an arm: default lines hold until its end."""
        defaults = self.statements.defaults
        self.statements.defaults = defaults.copy()
        self.nesting += 1
        if self.nesting > MAX_NESTING:
            self._stop(span, f"more than {MAX_NESTING} calls, merges and repetitions inside each other")
        try:
            yield
        finally:
            self.statements.defaults = defaults
            self.nesting -= 1

    # -- names ------------------------------------------------------------------------------------

    def turns(self, item: Statement, keyword: str, span: Span) -> Iterator[tuple[str, Entry]]:
        """A name for each turn of a statement (``x3``); what is given sets the entry's layer.

        A label with ``xN`` names a scope ``label.1``, ``label.2``, ... whose output is the last one's.
        """
        count = self.count(item.times)
        if item.label is None:
            for _ in range(count):
                yield self.names.numbered(keyword, span)
        elif item.times is None:
            yield self.names.labelled(item.label, keyword, self.diagnostics)
        else:
            yield from self._scope_of_turns(item.label, keyword, count)

    def _scope_of_turns(self, label: ast.Reference, keyword: str, count: int) -> Iterator[tuple[str, Entry]]:
        name, whole = self.names.labelled(label, keyword, self.diagnostics)
        whole.scope = Scope(f"{name}.", self.names.scope)
        for turn in range(1, count + 1):
            if turn > 1:
                self.names.scope.count(keyword)
            full, entry = self.names.child(whole.scope, str(turn), label.span)
            yield full, entry
        whole.layer = entry.layer

    def count(self, times: ast.Times | None) -> int:
        """How often a statement stands; 1 after noting that the count is no count."""
        if times is None:
            return 1
        try:
            return Substitution({}, self.diagnostics).integer(times.count, 1, "a repetition")
        except BadValue:
            return 1

    def refuse_modifiers(self, item: Statement) -> None:
        """``first`` and ``last`` on what is no call."""
        for modifier in item.times.modifiers if item.times else ():
            message = f"`{modifier.which.text}` changes arguments, and this is no call of a block"
            self.diagnostics.add(modifier.which.span, message)
