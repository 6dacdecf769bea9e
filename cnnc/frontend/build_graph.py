"""Resolved layers to graph nodes, one after another: what each reads, what it may be called, what it should give."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cnnc.frontend.build_conv import build_conv, build_deconv, build_dense, build_depthwise, build_rbf
from cnnc.frontend.build_merge import build_merge, build_strided_copy, settle_shortcut
from cnnc.frontend.build_nodes import MAX_ELEMENTS, Failed, Nodes
from cnnc.frontend.build_simple import (
    build_contrast,
    build_crop,
    build_plain,
    build_pool,
    build_subsample,
    build_upsample,
    build_zeropad,
)
from cnnc.frontend.diagnostics import Diagnostics
from cnnc.frontend.explain_shape import shown_shape
from cnnc.frontend.layer_parts import Place
from cnnc.frontend.layers import (
    BareLayer,
    CheckShape,
    ContrastLayer,
    ConvLayer,
    CropLayer,
    DeconvLayer,
    DenseLayer,
    DepthwiseLayer,
    FailedLayer,
    FromLayer,
    HeadEnd,
    HeadStart,
    MergeLayer,
    Plain,
    PoolLayer,
    RbfLayer,
    Resolved,
    ShortcutLayer,
    StridedCopyLayer,
    SubsampleLayer,
    UpsampleLayer,
    ZeroPadLayer,
)
from cnnc.frontend.names import Names
from cnnc.ir import ops
from cnnc.ir.graph import Graph, Value
from cnnc.ir.model import Head
from cnnc.ir.types import format_shape
from cnnc.ir.window import Pair

__all__ = ["MAX_ELEMENTS", "Built", "GraphBuilder"]


@dataclass(frozen=True)
class Built:
    """A layer as it came out, for ``expand``: references are to layers that have nodes.

    ``reads`` is the layer whose value it takes, nothing for merges; ``shape`` is as the program writes it.
    """

    layer: Resolved
    shape: tuple[int, ...] = ()
    reads: str = ""


@dataclass(frozen=True)
class _Flow:
    """A value that a layer may read, the layer that gives it, and a clause that says so."""

    value: Value
    name: str
    origin: str


class GraphBuilder:
    """Adds one layer after another; after a failed one nothing is added until a ``=>`` restores the shape."""

    def __init__(
        self,
        name: str,
        input_shape: tuple[int, ...] | None,
        decay_all: bool,
        names: Names,
        diagnostics: Diagnostics,
        sequence: bool = False,
    ) -> None:
        self.graph = Graph(name)
        self.names = names
        self.diagnostics = diagnostics
        self.nodes = Nodes(self.graph, sequence, decay_all, diagnostics)
        self.built: list[Built] = []
        self.heads: list[Head] = []
        # What the next layer reads, None after a failed layer.
        self._flow: _Flow | None = None
        if input_shape is not None:  # else layers are still checked for what does not need shapes
            value = self.graph.add("input", ops.Input(input_shape), layer="input").value()
            self._flow = _Flow(value, "input", self.nodes.origin)
        # Each layer by all of its names.
        self._flows: dict[str, _Flow | None] = {"input": self._flow}
        self._before_head: list[tuple[_Flow | None, HeadStart]] = []

    def finish(self) -> Graph:
        """The graph with its outputs, the network's own and the heads'. No layer has failed."""
        assert self._flow is not None
        self.built.append(Built(FromLayer(self.built[-1].layer.place, self._flow.name), (), self._flow.name))
        self.graph.outputs = {"output": self._flow.value, **self.graph.outputs}
        return self.graph

    def add(self, layer: Resolved) -> None:
        """Add a layer, or note why it does not fit; check its assertion."""
        if isinstance(layer, FromLayer):
            self._flow = self._flows.get(layer.source)
        elif isinstance(layer, HeadStart):
            self._before_head.append((self._flow, layer))
            self.built.append(Built(layer))
        elif isinstance(layer, HeadEnd):
            self._end_head(layer)
        elif isinstance(layer, CheckShape):
            self._check(layer.place)
        else:
            self._layer(layer)

    def _layer(self, layer: Resolved) -> None:
        place = layer.place
        try:
            self._flow = self._add(layer)
        except Failed:
            self._flow = None
        self._check(place)
        self._flows[place.name] = self._flow
        if place.alias:
            self._flows[place.alias] = self._flow

    def _add(self, layer: Resolved) -> _Flow:
        """The flow behind a layer. A shortcut that changes nothing and a merge of one arm are what they read.

        Raises:
            Failed: an error is noted, now or where the layer's input failed.
        """
        if isinstance(layer, MergeLayer):
            return self._merge(layer)
        if isinstance(layer, FailedLayer) or self._flow is None:
            raise Failed
        x = self._flow
        self.nodes.origin = x.origin
        if isinstance(layer, ShortcutLayer):
            settled = settle_shortcut(self.nodes, layer, self._shape_of(layer.like), x.value)
            if settled is None:
                return x
            layer = settled
        if isinstance(layer, (DenseLayer, RbfLayer)) and len(self.nodes.shape(x.value)) == 3:
            x = self._flatten(layer.place, x)
        if isinstance(layer, CropLayer) and layer.like:
            layer = replace(layer, like=self._source(layer.like).name)
        return self._done(layer, self._build(layer, x.value), x.name)

    def _build(self, layer: Resolved, x: Value) -> Value:
        match layer:
            case ConvLayer():
                return build_conv(self.nodes, layer, x)
            case DenseLayer():
                return build_dense(self.nodes, layer, x)
            case DepthwiseLayer():
                return build_depthwise(self.nodes, layer, x)
            case DeconvLayer():
                return build_deconv(self.nodes, layer, x)
            case RbfLayer():
                return build_rbf(self.nodes, layer, x)
            case PoolLayer():
                return build_pool(self.nodes, layer, x)
            case SubsampleLayer():
                return build_subsample(self.nodes, layer, x)
            case ContrastLayer():
                return build_contrast(self.nodes, layer, x)
            case UpsampleLayer():
                return build_upsample(self.nodes, layer, x)
            case ZeroPadLayer():
                return build_zeropad(self.nodes, layer, x)
            case CropLayer():
                return build_crop(self.nodes, layer, layer.size or self._size_of(layer), x)
            case StridedCopyLayer():
                return build_strided_copy(self.nodes, layer, x)
        assert isinstance(layer, Plain), "structure builds nothing"
        return build_plain(self.nodes, layer, x)

    def _merge(self, layer: MergeLayer) -> _Flow:
        sources = [self._source(name) for _, name in layer.operands]
        terms = [(factor, source.name) for (factor, _), source in zip(layer.operands, sources, strict=True)]
        if len(sources) == 1 and terms[0][0] == 1 and layer.activation is None:
            return sources[0]
        settled = replace(layer, operands=tuple(terms))
        return self._done(settled, build_merge(self.nodes, settled, [source.value for source in sources]), "")

    def _flatten(self, place: Place, x: _Flow) -> _Flow:
        """fc flattens by itself; the flatten is a layer of its own, as in an expanded program."""
        own = Place(self.names.automatic("flatten", place.head), place.head, place.span)
        layer = BareLayer(own, "flatten")
        return self._done(layer, build_plain(self.nodes, layer, x.value), x.name)

    def _done(self, layer: Resolved, value: Value, reads: str) -> _Flow:
        place = layer.place
        self.built.append(Built(layer, self._shown(value), reads))
        return _Flow(value, place.name, f"the input is the output of `{place.shown}` (line {place.head.line})")

    def _end_head(self, layer: HeadEnd) -> None:
        """The head's last value is an output; the main flow goes on as it was."""
        end, (self._flow, start) = self._flow, self._before_head.pop()
        self.built.append(Built(layer))
        if end is not None:
            self.graph.outputs[start.name] = end.value
            self.heads.append(Head(start.name, start.weight))

    # -- shapes -----------------------------------------------------------------------------------

    def _check(self, place: Place) -> None:
        """Compare with the assertion; after an error go on from what it says, if that is a shape of the same kind."""
        if place.assertion is None:
            return
        name = place.shown or (self._flow.name if self._flow else "")
        if self._flow is not None:
            shape = self._shown(self._flow.value)
            if shape == place.assertion:
                return
            assert place.assertion_span is not None
            message = f"`{name}` gives {format_shape(shape)}, not {format_shape(place.assertion)}"
            if len(shape) != len(place.assertion):
                kind = {1: "a vector", 2: "a sequence", 3: "an image"}[len(shape)]
                self.diagnostics.add(place.assertion_span, message, f"{kind} is written `{format_shape(shape)}`")
                return
            self.diagnostics.add(place.assertion_span, message)
        shape = graph_shape(place.assertion, self.nodes.sequence)
        stand_in = self.graph.add(self.graph.fresh(f"?{name}"), ops.Input(shape))
        self._flow = _Flow(stand_in.value(), name, f"the input is the output of `{name}` (line {place.head.line})")

    def _source(self, name: str) -> _Flow:
        """What a reference reads.

        Raises:
            Failed: that layer has failed.
        """
        found = self._flows.get(name)
        if found is None:
            raise Failed
        return found

    def _shape_of(self, name: str) -> tuple[int, ...]:
        return self.nodes.shape(self._source(name).value)

    def _size_of(self, layer: CropLayer) -> Pair:
        """Height and width of the layer that a crop is like."""
        shape = self._shape_of(layer.like)
        if len(shape) != 3:
            message = f"`{layer.like}` gives {self.nodes.shown(shape)}, which has no height and width"
            self.nodes.fail(layer.place.blame("width"), message)
        return shape[0], shape[1]

    def _shown(self, value: Value) -> tuple[int, ...]:
        return shown_shape(self.nodes.shape(value), self.nodes.sequence)


def graph_shape(shape: tuple[int, ...], sequence: bool) -> tuple[int, ...]:
    """A shape of the program as the graph has it: ``64x1x32`` for the ``64x32`` of a sequence."""
    return (shape[0], 1, shape[1]) if sequence and len(shape) == 2 else shape
