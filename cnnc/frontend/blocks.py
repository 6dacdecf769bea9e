"""Blocks: what they capture where they are defined, which of them a place sees, and how arguments are bound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cnnc.frontend import ast, vocabulary
from cnnc.frontend.diagnostics import Diagnostics
from cnnc.frontend.names import Scope
from cnnc.frontend.statements import Defaults
from cnnc.frontend.substitute import BadValue, Bindings, Bound, Substitution, shown
from cnnc.source import Span

_MAX_LISTED = 12


@dataclass(frozen=True)
class Block:
    """A block with what was in force where it is defined: defaults, its file's earlier blocks, earlier labels."""

    definition: ast.Block
    defaults: Defaults
    blocks: Blocks
    rank: int  # sees the blocks with a lower rank
    scope: Scope
    limit: int  # sees labels up to this one

    @property
    def name(self) -> str:
        return self.definition.name.text


class Blocks:
    """The blocks that are defined so far in one file; what is wrong with a definition is said once, here."""

    def __init__(self, items: Sequence[ast.Item], diagnostics: Diagnostics) -> None:
        self.diagnostics = diagnostics
        self.visible: dict[str, Block] = {}
        self._ranks: dict[str, int] = {}
        self.later = {item.name.text: item for item in items if isinstance(item, ast.Block)}
        self.calls = {name: tuple(_calls(item.body)) for name, item in self.later.items()}
        # After a syntax error a missing block may be the one that could not be read.
        self.lenient = any(isinstance(item, ast.Broken) and item.word in ("block", "use") for item in items)

    def define(self, item: ast.Block, defaults: Defaults, scope: Scope, limit: int) -> None:
        """Make a block visible from here on."""
        self._check_parameters(item)
        for call in _calls(item.body):
            if call.name.text not in self.visible:
                self._unknown(call.name, item)
        block = Block(item, defaults.copy(), self, len(self.visible), scope, limit)
        earlier = self.visible.get(block.name)
        if earlier is None:
            self._show(block)
            return
        where = _where(earlier.definition.name.span, item.span)
        self.diagnostics.add(item.name.span, f"the block `{block.name}` is already defined in {where}")

    def take(self, blocks: Mapping[str, Block], use: ast.Use) -> None:
        """Make another file's blocks visible."""
        for block in blocks.values():
            earlier = self.visible.get(block.name)
            if earlier is not None and earlier.definition is not block.definition:
                where = _where(earlier.definition.name.span, use.span)
                self.diagnostics.add(use.span, f"`{use.path}` has a block `{block.name}`, which is defined in {where}")
            elif earlier is None:
                self._show(block)

    def own(self) -> dict[str, Block]:
        """The blocks that are defined in this file itself."""
        return {name: block for name, block in self.visible.items() if block.blocks is self}

    def find(self, name: ast.Name, rank: int | None = None) -> Block | None:
        """The block of a call that sees those below ``rank``; None after noting that there is none."""
        if name.text not in self.visible:
            self._unknown(name, None)
        elif rank is None or self._ranks[name.text] < rank:
            return self.visible[name.text]
        return None  # noted where the block is defined

    def _show(self, block: Block) -> None:
        self._ranks[block.name] = len(self.visible)
        self.visible[block.name] = block

    def _check_parameters(self, item: ast.Block) -> None:
        seen: set[str] = set()
        for parameter in item.parameters:
            if parameter.name.text in seen:
                message = f"`{item.name.text}` has two parameters `{parameter.name.text}`"
                self.diagnostics.add(parameter.span, message)
            seen.add(parameter.name.text)

    def _unknown(self, name: ast.Name, inside: ast.Block | None) -> None:
        """A call of what is no block here: it calls itself, comes later, or does not exist."""
        chain = self._cycle(name.text, inside.name.text) if inside else None
        if chain:
            if len(chain) > 7:
                chain[4:-2] = ["..."]
            self.diagnostics.add(name.span, f"the block `{name.text}` calls itself", " calls ".join(chain))
        elif name.text in self.later:
            line = self.later[name.text].span.line
            message = f"the block `{name.text}` is defined only in line {line}"
            self.diagnostics.add(name.span, message, "a block stands before what calls it")
        elif not self.lenient:
            likely = vocabulary.suggestion(name.text, self.visible)
            hint = f"did you mean `{likely}`?" if likely else self._known()
            self.diagnostics.add(name.span, f"no block `{name.text}` is defined before this line", hint)

    def _known(self) -> str:
        if not self.visible:
            return "blocks are defined by `block name(parameters) { ... }` or come with `use`"
        return f"blocks are: {', '.join(list(self.visible)[:_MAX_LISTED])}"

    def _cycle(self, name: str, goal: str) -> list[str]:
        """The calls by which a block gets back to ``goal``, which calls it; empty if it does not."""
        callers = {name: goal}
        for reached in (todo := [name]):
            if reached == goal:
                break
            for call in self.calls.get(reached, ()):
                if call.name.text not in callers:
                    callers[call.name.text] = reached
                    todo.append(call.name.text)
        else:
            return []
        chain = [goal]
        while len(chain) == 1 or chain[-1] != goal:
            chain.append(callers[chain[-1]])
        return chain[::-1]


def _calls(body: Sequence[ast.Inner]) -> Iterator[ast.Call]:
    """The calls in a body, inner ones too; braces are not nested deeply."""
    for item in body:
        if isinstance(item, ast.Call):
            yield item
        elif isinstance(item, (ast.Repeat, ast.Head)):
            yield from _calls(item.body)
        elif isinstance(item, ast.Merge):
            for arm in item.arms:
                yield from _calls(arm.body)


def _where(span: Span, seen_from: Span) -> str:
    return f"line {span.line}" if span.source == seen_from.source else f"{span.source.name}:{span.line}"


def bind(block: Block, call: ast.Call, extra: Sequence[ast.Argument], outer: Substitution) -> dict[str, Bound]:
    """The values of a block's parameters in one call; ``extra`` are those of ``first(...)`` and ``last(...)``.

    Arguments have their values from ``outer``, the caller's surroundings.

    Raises:
        BadValue: after noting what is wrong.
    """
    diagnostics = outer.diagnostics
    given = _given(block, call, diagnostics)
    for argument in extra:
        given[_parameter(block, argument, diagnostics)] = argument.value
    bound: dict[str, Bound] = {}
    for parameter in block.definition.parameters:
        name = parameter.name.text
        if name in given:
            bound[name] = outer.evaluate(given[name])
        elif parameter.default is not None:
            bound[name] = Substitution(bound, diagnostics).evaluate(parameter.default)
        else:
            message = f"`{block.name}` needs a value for `{name}`"
            diagnostics.add(call.name.span, message, f"its parameters are {signature(block)}")
            raise BadValue
    return bound


def _given(block: Block, call: ast.Call, diagnostics: Diagnostics) -> dict[str, ast.Value]:
    """The arguments of a call by parameter."""
    parameters = [parameter.name.text for parameter in block.definition.parameters]
    given: dict[str, ast.Value] = {}
    for place, argument in enumerate(call.arguments):
        if argument.name is not None:
            name = _parameter(block, argument, diagnostics)
        elif any(earlier.name is not None for earlier in call.arguments[:place]):
            diagnostics.add(argument.span, "an argument without name behind a named one")
            raise BadValue
        elif place >= len(parameters):
            count = f"{len(parameters)} argument{'s' * (len(parameters) != 1)}"
            message = f"`{block.name}` takes {count}, not {len(call.arguments)}"
            diagnostics.add(argument.span, message, f"its parameters are {signature(block)}" if parameters else None)
            raise BadValue
        else:
            name = parameters[place]
        if name in given:
            diagnostics.add(argument.span, f"`{name}` is given twice")
            raise BadValue
        given[name] = argument.value
    return given


def _parameter(block: Block, argument: ast.Argument, diagnostics: Diagnostics) -> str:
    """The name of a named argument's parameter."""
    if argument.name is None:
        message = "arguments of `first` and `last` are named"
        diagnostics.add(argument.span, message, f"the parameters of `{block.name}` are {signature(block)}")
        raise BadValue
    parameters = [parameter.name.text for parameter in block.definition.parameters]
    if argument.name.text not in parameters:
        hint = vocabulary.choice(argument.name.text, parameters, "its parameters are")
        message = f"`{block.name}` has no parameter `{argument.name.text}`"
        diagnostics.add(argument.name.span, message, hint if parameters else None)
        raise BadValue
    return argument.name.text


def signature(block: Block) -> str:
    """A block's parameters as its definition writes them."""
    return ", ".join(parameter.span.text for parameter in block.definition.parameters)


def shown_call(block: Block, bound: Bindings) -> str:
    """A call as messages show it: bottleneck(w=64, s=1)."""
    return f"`{block.name}({', '.join(f'{name}={shown(value)}' for name, value in bound.items())})`"
