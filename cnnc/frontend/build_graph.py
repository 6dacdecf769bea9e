"""Resolved layers to graph nodes, shapes inferred on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cnnc.errors import ShapeError
from cnnc.frontend.diagnostics import Diagnostics
from cnnc.frontend.explain_shape import explain
from cnnc.frontend.layers import (
    Affine,
    BareLayer,
    CheckShape,
    ConvLayer,
    DenseLayer,
    DropoutLayer,
    FailedLayer,
    FromLayer,
    HeadEnd,
    HeadStart,
    MergeLayer,
    Norm,
    NormLayer,
    Place,
    PoolLayer,
    Resolved,
    ShortcutLayer,
    StridedCopyLayer,
    WindowSettings,
)
from cnnc.frontend.merge_nodes import explain_merge, merge_nodes, shortcut
from cnnc.frontend.names import Names
from cnnc.ir import ops
from cnnc.ir.graph import Graph, Value
from cnnc.ir.params import Init, ParamSpec, conv_spec, linear_spec, vector_spec
from cnnc.ir.types import Element, format_shape
from cnnc.ir.window import Pad, Window, same_padding, tensorflow_same_padding

# Larger values are slips of the pen: 1 TiB in float32.
MAX_ELEMENTS = 2**38


@dataclass(frozen=True)
class Built:
    """A layer as it came out: for ``expand``, which shows inserted flattens and shapes."""

    layer: Resolved
    shape: tuple[int, ...]


class _Failed(Exception):
    """The layer's error is already noted."""


class GraphBuilder:
    """Adds one layer after another; after a failed one nothing is added until a ``=>`` restores the shape."""

    def __init__(
        self, name: str, input_shape: tuple[int, ...], decay_all: bool, names: Names, diagnostics: Diagnostics
    ) -> None:
        self.graph = Graph(name)
        self.names = names
        self.diagnostics = diagnostics
        self.decay_all = decay_all
        self.built: list[Built] = []
        self._dropouts = 0
        # What the next layer reads, None after a failed layer, and its full name.
        self.current: Value | None = self.graph.add("input", ops.Input(input_shape), layer="input").value()
        self.name = "input"
        self.values: dict[str, Value | None] = {"input": self.current}
        self.heads: dict[str, tuple[Value | None, float]] = {}
        self._lines: dict[str, int] = {}
        # A shortcut that is an identity is another name of the layer it reads.
        self._real_names: dict[str, str] = {}
        self._around: tuple[str, Value | None] = ("input", None)  # the main flow, inside a head

    def add(self, layer: Resolved) -> None:
        """Add a layer, or note why it does not fit; check its assertion."""
        if isinstance(layer, (FromLayer, HeadStart, HeadEnd)):
            self._flow(layer)
            return
        place = layer.place
        if not isinstance(layer, CheckShape):
            self._lines[place.name] = place.head.line
            self.current = self._value(layer)
            self.name = place.name
        self._check(place)
        self.values[self.name] = self.current

    def _value(self, layer: Resolved) -> Value | None:
        """The layer's output; None if it, or what it reads, failed."""
        try:
            if isinstance(layer, MergeLayer):
                value = self._merge(layer, layer.place)
                layer = replace(layer, operands=tuple((f, self._real_name(source)) for f, source in layer.operands))
            elif isinstance(layer, FailedLayer) or self.current is None:
                return None
            else:
                became = self._shortcut(layer) if isinstance(layer, ShortcutLayer) else layer
                if became is None:
                    return self.current
                layer, value = became, self._emit(became, layer.place, self.current)
        except _Failed:
            return None
        self.built.append(Built(layer, self._shape(value)))
        return value

    def _real_name(self, name: str) -> str:
        """The layer that an identity shortcut is another name of, else the name itself."""
        return self._real_names.get(name, name)

    def _check(self, place: Place) -> None:
        """The layer's assertion; after an error the flow goes on from the asserted shape."""
        if place.assertion is None:
            return
        shape = self._shape(self.current) if self.current is not None else None
        if shape is not None and place.assertion != shape:
            assert place.assertion_span is not None
            message = f"`{place.name}` gives {format_shape(shape)}, not {format_shape(place.assertion)}"
            self.diagnostics.add(place.assertion_span, message)
        if place.assertion != shape:
            stand_in = self.graph.add(self.graph.fresh(f"?{place.name}"), ops.Input(place.assertion))
            self.current = stand_in.value()

    @property
    def _origin(self) -> str:
        """Where the next layer's input comes from, as messages say it."""
        if self.name not in self._lines:
            return "the input is the program's own"
        return f"the input is the output of `{self.name}` (line {self._lines[self.name]})"

    def _flow(self, item: FromLayer | HeadStart | HeadEnd) -> None:
        """What the next layer reads, where it is not the layer before."""
        if isinstance(item, FromLayer):
            self.name, self.current = item.source, self.values.get(item.source)
            item = replace(item, source=self._real_name(item.source))
        elif isinstance(item, HeadStart):
            self._around = self.name, self.current
            self.heads[item.name] = None, item.weight
        else:
            self.heads[item.name] = self.current, self.heads[item.name][1]
            self.name, self.current = self._around
        self.built.append(Built(item, ()))

    def head_outputs(self) -> dict[str, Value]:
        """The outputs of training heads by name."""
        return {name: value for name, (value, _) in self.heads.items() if value is not None}

    # -- layers -----------------------------------------------------------------------------------

    def _emit(self, layer: Resolved, place: Place, x: Value) -> Value:
        if isinstance(layer, ConvLayer):
            return self._conv(layer, place, x)
        if isinstance(layer, DenseLayer):
            return self._dense(layer, place, x)
        if isinstance(layer, PoolLayer):
            window = self._window(layer.window, x)
            op = ops.MaxPool(window) if layer.kind == "max" else ops.AvgPool(window, layer.count_pad)
            return self._node(place.name, op, [x], place)
        if isinstance(layer, NormLayer):
            return self._norm(place.name, layer.norm, place, x)
        if isinstance(layer, DropoutLayer):
            self._dropouts += 1
            return self._node(place.name, ops.Dropout(layer.rate, self._dropouts - 1), [x], place)
        if isinstance(layer, StridedCopyLayer):
            return self._node(place.name, ops.PadShortcut(layer.stride, layer.width), [x], place)
        assert isinstance(layer, BareLayer)
        return self._node(place.name, _bare_op(layer.keyword), [x], place)

    def _conv(self, layer: ConvLayer, place: Place, x: Value) -> Value:
        window = self._window(layer.window, x)
        shape = self._shape(x)
        depth = shape[-1] // layer.groups if len(shape) == 3 else 1
        spec = conv_spec(f"{place.name}.weight", layer.affine.width, window.kernel, depth)
        weight = self._weight(spec, place)
        y = self._node(place.name, ops.Conv(window, layer.groups), [x, weight], place)
        return self._epilogue(layer.affine, place, y, depth * window.taps)

    def _dense(self, layer: DenseLayer, place: Place, x: Value) -> Value:
        if len(self._shape(x)) == 3:
            x = self._flatten(place, x)
        features = self._shape(x)[-1]
        weight = self._weight(linear_spec(f"{place.name}.weight", layer.affine.width, features), place)
        y = self._node(place.name, ops.Linear(), [x, weight], place)
        return self._epilogue(layer.affine, place, y, features)

    def _flatten(self, place: Place, x: Value) -> Value:
        """fc flattens by itself; the flatten is a layer of its own, as in an expanded program."""
        own = Place(self.names.automatic("flatten", place.head), place.head, place.span)
        value = self._node(own.name, ops.Flatten(), [x], own)
        self.built.append(Built(BareLayer(own, "flatten"), self._shape(value)))
        return value

    def _epilogue(self, affine: Affine, place: Place, y: Value, fan_in: int) -> Value:
        """Bias, batch norm, activation: in this order, however they are written."""
        name, layer = place.name, place.name
        if affine.bias:
            spec = vector_spec(f"{name}.bias", affine.width, Init("uniform", fan_in), decay=self.decay_all)
            y = self._node(f"{name}.add_bias", ops.BiasAdd(), [y, self._parameter(spec, place, layer)], place)
        if affine.norm:
            layer = f"{name}.bn"
            y = self._norm(layer, affine.norm, place, y)
        return self._activate(affine.activation, place, y, layer) if affine.activation else y

    def _activate(self, kind: str, place: Place, y: Value, layer: str = "") -> Value:
        """An activation behind a layer's own op."""
        op = ops.Softmax() if kind == "softmax" else ops.Activation(kind)
        return self._node(f"{place.name}.{kind}", op, [y], place, layer)

    def _norm(self, name: str, norm: Norm, place: Place, x: Value) -> Value:
        channels = self._shape(x)[-1]
        specs = [
            vector_spec(f"{name}.weight", channels, Init("ones"), decay=self.decay_all),
            vector_spec(f"{name}.bias", channels, Init("zeros"), decay=self.decay_all),
            vector_spec(f"{name}.running_mean", channels, Init("zeros"), trainable=False),
            vector_spec(f"{name}.running_var", channels, Init("ones"), trainable=False),
        ]
        operands = [self._parameter(spec, place, name) for spec in specs]
        return self._node(name, ops.BatchNorm(norm.eps, norm.momentum), [x, *operands], place, name)

    def _merge(self, layer: MergeLayer, place: Place) -> Value:
        operands = [value for value in (self.values.get(source) for _, source in layer.operands) if value is not None]
        if len(operands) < len(layer.operands):
            raise _Failed

        def add(name: str, op: ops.Op, values: Sequence[Value]) -> Value:
            return self.graph.add(name, op, values, layer=place.name, span=place.span).value()

        try:
            y = merge_nodes(layer, operands, add)
        except ShapeError as error:
            attribute, message, hint = explain_merge(layer, [self._shape(value) for value in operands], error)
            self.diagnostics.add(place.blame(attribute), message, hint)
            raise _Failed from None
        if self.graph.type_of(y).count > MAX_ELEMENTS:
            self._too_large(place, "output values", self.graph.type_of(y).count)
        return self._activate(layer.activation, place, y) if layer.activation else y

    def _shortcut(self, layer: ShortcutLayer) -> Resolved | None:
        """The layer that a shortcut becomes; None where it is only another name of what it reads."""
        like = self.values.get(layer.like)
        if like is None or self.current is None:
            raise _Failed
        try:
            became = shortcut(layer, self._shape(self.current), self._shape(like))
        except ShapeError as error:
            self.diagnostics.add(layer.place.head, error.message, error.hint or f"`{layer.like}` gives the shape")
            raise _Failed from None
        if became is None:
            self._real_names[layer.place.name] = self._real_name(self.name)
        return became

    def _window(self, settings: WindowSettings, x: Value) -> Window:
        pad = _pad(settings, self._shape(x))
        return Window(settings.kernel, settings.stride, pad, settings.dilation, settings.ceil)

    # -- nodes ------------------------------------------------------------------------------------

    def _weight(self, spec: ParamSpec, place: Place) -> Value:
        if spec.count > MAX_ELEMENTS:
            self._too_large(place, "weights", spec.count)
        return self._parameter(spec, place, place.name, Element.REAL)

    def _parameter(self, spec: ParamSpec, place: Place, layer: str, element: Element = Element.ACC) -> Value:
        op = ops.Parameter(spec, element)
        return self.graph.add(spec.name, op, layer=layer, span=place.span).value()

    def _node(self, name: str, op: ops.Op, operands: list[Value], place: Place, layer: str = "") -> Value:
        try:
            node = self.graph.add(name, op, operands, layer=layer or place.name, span=place.span)
        except ShapeError as error:
            message, hint = explain(error, op, self._shape(operands[0]), self._origin)
            self.diagnostics.add(place.blame(error.attribute), message, hint)
            raise _Failed from None
        if node.types[0].count > MAX_ELEMENTS:
            self._too_large(place, "output values", node.types[0].count)
        return node.value()

    def _too_large(self, place: Place, what: str, count: int) -> None:
        self.diagnostics.add(
            place.blame("width"), f"`{place.name}` would have {count:.2g} {what}", f"the limit is {MAX_ELEMENTS:,}"
        )
        raise _Failed

    def _shape(self, value: Value) -> tuple[int, ...]:
        return self.graph.type_of(value).shape


def _pad(settings: WindowSettings, shape: tuple[int, ...]) -> Pad:
    padding = settings.padding
    if padding.kind == "same":
        return same_padding(settings.kernel, settings.dilation)
    if padding.kind == "tf" and len(shape) == 3:
        image = (shape[0], shape[1])
        return tensorflow_same_padding(image, settings.kernel, settings.stride, settings.dilation)
    return padding.pad


def _bare_op(keyword: str) -> ops.Op:
    table: dict[str, ops.Op] = {
        "flatten": ops.Flatten(),
        "globalavgpool": ops.GlobalAvgPool(),
        "softmax": ops.Softmax(),
    }
    return table.get(keyword) or ops.Activation(keyword)
