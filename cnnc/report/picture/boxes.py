"""Layers to boxes: a conv with its batch norm and activation is one, and a flatten belongs to what reads it."""

from __future__ import annotations

from dataclasses import dataclass, field

from cnnc.ir import ops
from cnnc.ir.graph import Graph
from cnnc.ir.model import Model
from cnnc.ir.types import format_shape
from cnnc.report.layers import Layer, layers_of
from cnnc.report.picture.words import is_depthwise, is_pointwise, kind_of, separable_words, words_of

# Layers that are drawn in the box of what they follow; a flatten is drawn with what follows it.
FOLLOWERS = ("batch_norm", "activation", "dropout", "bias", "scale")
FLATTEN = "flatten"
PRODUCTS = ("conv", "conv1d", "deconv", "dense", "rbf")
HALVES = ("depthwise", "pointwise")  # the two layers of the word ``sepconv``
INPUT, OUTPUT = "input", "output"


@dataclass(frozen=True)
class Box:
    """One box: the layer it is named for, its words line by line, and the boxes whose values it reads, in order."""

    name: str
    kind: str
    lines: tuple[str, ...]
    shape: str  # of its output
    inputs: tuple[int, ...]

    @property
    def scope(self) -> tuple[str, ...]:
        """The calls it stands in: ``("stage2", "1")`` for ``stage2.1.conv1``."""
        return tuple(self.name.split(".")[:-1])


@dataclass
class _Draft:
    """A box while layers join it: those before its main layer, that one, and those behind."""

    layers: list[Layer] = field(default_factory=list)
    main: int | None = None
    pointwise: int | None = None  # the second half of a separable conv, whose first is ``main``

    @property
    def last(self) -> Layer:
        return self.layers[-1]


def boxes_of(model: Model, *, train: bool = False) -> tuple[Box, ...]:
    """Boxes in program order, the input first, then layers, then outputs."""
    graph, layers = model.graph, layers_of(model, train=train)
    inside = {node.name: layer.name for layer in layers for node in layer.computed}
    users = _users(layers, inside, graph)
    ends = {head.name: f"head {head.name}, loss weight {head.weight:g}" for head in model.heads if train}
    ends["output"] = "output"
    read_as_output = {inside.get(graph.outputs[name].node) for name in ends}
    calls = _calls(layers)
    drafts: dict[str, _Draft] = {}
    for layer in layers:
        sources = _sources(layer, inside)
        before = drafts.get(sources[0]) if len(sources) == 1 else None
        alone = before is not None and users[sources[0]] == 1 and sources[0] not in read_as_output
        joins = before is not None and alone and (_joins(layer, before) or _completes(layer, before, graph))
        one_call = before is not None and calls[before.last.name] == calls[layer.name]
        draft = before if before is not None and joins and one_call else _Draft()
        draft.layers.append(layer)
        if draft.main is None and layer.op not in (*FOLLOWERS, FLATTEN):
            draft.main = len(draft.layers) - 1
        elif layer.op == "conv":
            draft.pointwise = len(draft.layers) - 1
        drafts[layer.name] = draft
    return _finish(model, list({id(draft): draft for draft in drafts.values()}.values()), inside, ends)


def _calls(layers: tuple[Layer, ...]) -> dict[str, str]:
    """The call each layer stands in: its scope, unless that is a word whose parts have names (``conv1.bn``)."""
    names = {layer.name for layer in layers}
    words = names | {_scope(name) for name in names if {f"{_scope(name)}.{half}" for half in HALVES} <= names}

    def call(name: str) -> str:
        scope = _scope(name)
        return call(scope) if scope in words else scope

    return {name: call(name) for name in names}


def _scope(name: str) -> str:
    return name.rpartition(".")[0]


def _joins(layer: Layer, before: _Draft) -> bool:
    """Whether a layer that alone reads a box belongs into it."""
    if layer.op == "batch_norm" and before.main is not None:
        # Behind a merge or a pool it begins what follows (pre-activation), or stands alone.
        return before.layers[before.main].op in PRODUCTS
    if layer.op in FOLLOWERS:
        return True
    return before.main is None and layer.op in (*PRODUCTS, FLATTEN)


def _completes(layer: Layer, before: _Draft, graph: Graph) -> bool:
    """Whether a layer is the 1x1 conv of a separable one: right behind a depthwise conv, with nothing between."""
    depthwise = before.main is not None and before.pointwise is None and before.layers[before.main] is before.last
    return depthwise and layer.op == "conv" and is_pointwise(layer) and is_depthwise(before.last, graph)


def _finish(model: Model, drafts: list[_Draft], inside: dict[str, str], ends: dict[str, str]) -> tuple[Box, ...]:
    number = {layer.name: index for index, draft in enumerate(drafts, 1) for layer in draft.layers}
    boxes = [Box(INPUT, INPUT, (), format_shape(model.shown(model.input_shape)), ())]
    for draft in drafts:
        inputs = _inputs(draft, model.graph, inside, number)
        shape = format_shape(model.shown(model.graph.type_of(draft.last.output).shape))
        main = draft.layers[draft.main or 0]
        boxes.append(Box(_name(draft, main), kind_of(main), _lines(draft, model.graph), shape, inputs))
    for name, text in ends.items():
        value = model.graph.outputs[name]
        source = number.get(inside.get(value.node, ""), 0)
        boxes.append(Box(text, OUTPUT, (), boxes[source].shape, (source,)))
    return tuple(boxes)


def _name(draft: _Draft, main: Layer) -> str:
    """A separable conv is named for its own scope where it has one (``sepconv1.depthwise``)."""
    if draft.pointwise is None:
        return main.name
    scope, other = _scope(main.name), _scope(draft.layers[draft.pointwise].name)
    return scope if scope and scope == other else main.name


def _lines(draft: _Draft, graph: Graph) -> tuple[str, ...]:
    """What stands before the main layer, the main layer, what follows."""
    main = draft.main
    if main is None:
        return (_said(draft.layers, graph),)
    behind = main if draft.pointwise is None else draft.pointwise
    head, *rest = words_of(draft.layers[behind], graph)
    if draft.pointwise is not None:
        head = separable_words(draft.layers[main], draft.layers[behind])
    before = _said([layer for layer in draft.layers[:main] if layer.op != FLATTEN], graph)
    after = ", ".join([*rest, *filter(None, [_said(draft.layers[behind + 1 :], graph)])])
    return tuple(line for line in (before, head, after) if line)


def _said(layers: list[Layer], graph: Graph) -> str:
    return ", ".join(word for layer in layers for word in words_of(layer, graph))


def _inputs(draft: _Draft, graph: Graph, inside: dict[str, str], number: dict[str, int]) -> tuple[int, ...]:
    own = {layer.name for layer in draft.layers}
    found = [source for layer in draft.layers for source in _data(layer, graph, inside) if source not in own]
    return tuple(number.get(source, 0) for source in found)


def _data(layer: Layer, graph: Graph, inside: dict[str, str]) -> list[str]:
    """The layers a layer reads, one for each operand that is no parameter; the program's input is ``""``."""
    values = [value for node in layer.computed for value in node.operands]
    nodes = [graph[value.node] for value in values]
    return [
        inside.get(node.name, "")
        for node in nodes
        if inside.get(node.name) != layer.name and not isinstance(node.op, ops.Parameter)
    ]


def _sources(layer: Layer, inside: dict[str, str]) -> list[str]:
    found = [inside[value.node] for node in layer.computed for value in node.operands if value.node in inside]
    return list(dict.fromkeys(name for name in found if name != layer.name))


def _users(layers: tuple[Layer, ...], inside: dict[str, str], graph: Graph) -> dict[str, int]:
    """How many layers read each layer."""
    users = {layer.name: 0 for layer in layers}
    for layer in layers:
        for source in _sources(layer, inside):
            users[source] += 1
    return users
