"""How layers add nodes to the graph: types inferred, misfits told in the words of the program."""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn

from cnnc.errors import ShapeError
from cnnc.frontend.diagnostics import Diagnostics
from cnnc.frontend.explain_shape import explain, shown_shape
from cnnc.frontend.layer_parts import Activate, Norm, Padding, Place, WindowSettings
from cnnc.ir import ops
from cnnc.ir.graph import Graph, Value
from cnnc.ir.params import Init, ParamSpec, vector_spec
from cnnc.ir.types import Element, format_shape
from cnnc.ir.window import Pad, Window, causal_padding, same_padding, tensorflow_same_padding
from cnnc.source import Span

# Larger values are slips of the pen: 1 TiB in float32.
MAX_ELEMENTS = 2**38


class Failed(Exception):
    """The layer's error is already noted."""


class Nodes:
    """The graph under construction; ``origin`` is a clause that says where the current layer's input comes from."""

    def __init__(self, graph: Graph, sequence: bool, decay_all: bool, diagnostics: Diagnostics) -> None:
        self.graph = graph
        self.sequence = sequence
        self.decay_all = decay_all
        self.diagnostics = diagnostics
        self.origin = "the input is the program's own"
        self.dropouts = 0

    # -- nodes ------------------------------------------------------------------------------------

    def add(self, name: str, op: ops.Op, operands: list[Value], place: Place, layer: str = "") -> Value:
        """A node; ``layer`` is what it is counted to, the statement itself unless told."""
        try:
            node = self.graph.add(name, op, operands, layer=layer or place.name, span=place.span)
        except ShapeError as error:
            message, hint = explain(error, op, self.shape(operands[0]), self.origin, self.sequence)
            self.fail(place.blame(error.attribute), message, hint)
        if node.types[0].count > MAX_ELEMENTS:
            self._too_large(place, "output values", node.types[0].count)
        return node.value()

    def parameter(self, spec: ParamSpec, place: Place, layer: str = "", element: Element = Element.ACC) -> Value:
        if spec.count > MAX_ELEMENTS:
            self._too_large(place, "weights", spec.count)
        return self.graph.add(
            spec.name, ops.Parameter(spec, element), layer=layer or place.name, span=place.span
        ).value()

    def constant(self, spec: ParamSpec, place: Place, layer: str = "", element: Element = Element.ACC) -> Value:
        """What an op needs and no user sees: in no state_dict and no count."""
        return self.parameter(replace(spec, listed=False, trainable=False), place, layer, element)

    def vector(self, name: str, count: int, init: Init, place: Place, layer: str = "") -> Value:
        """A trained number per channel; it decays only where everything does."""
        return self.parameter(vector_spec(name, count, init, decay=self.decay_all), place, layer)

    def fail(self, span: Span, message: str, hint: str | None = None) -> NoReturn:
        """Note an error and give up the layer."""
        self.diagnostics.add(span, message, hint)
        raise Failed from None

    def _too_large(self, place: Place, what: str, count: int) -> None:
        self.fail(
            place.blame("width"), f"`{place.name}` would have {count:.2g} {what}", f"the limit is {MAX_ELEMENTS:,}"
        )

    # -- shapes -----------------------------------------------------------------------------------

    def shape(self, value: Value) -> tuple[int, ...]:
        return self.graph.type_of(value).shape

    def shown(self, shape: tuple[int, ...]) -> str:
        """A shape as the program writes it: ``64x32`` for the ``64x1x32`` of a sequence."""
        return format_shape(shown_shape(shape, self.sequence))

    def image(self, value: Value, place: Place, what: str) -> tuple[int, int, int]:
        """Height, width and channels of a layer's input, which must be an image."""
        shape = self.shape(value)
        if len(shape) != 3:
            self.fail(place.head, f"{what} needs {self.kind}, not {self.shown(shape)}", self.origin)
        return shape[0], shape[1], shape[2]

    @property
    def kind(self) -> str:
        """What images are called in this program."""
        return "a sequence LxC" if self.sequence else "an image HxWxC"

    # -- what many layers end with ----------------------------------------------------------------

    def window(self, settings: WindowSettings, x: Value) -> Window:
        pad = padding(settings.padding, settings, self.shape(x))
        return Window(settings.kernel, settings.stride, pad, settings.dilation, settings.ceil)

    def norm(self, name: str, norm: Norm, place: Place, x: Value) -> Value:
        channels = self.shape(x)[-1]
        gamma = vector_spec(f"{name}.weight", channels, Init("ones"), decay=self.decay_all)
        beta = vector_spec(f"{name}.bias", channels, Init("zeros"), decay=self.decay_all)
        mean = vector_spec(f"{name}.running_mean", channels, Init("zeros"), trainable=False)
        variance = vector_spec(f"{name}.running_var", channels, Init("ones"), trainable=False)
        first = self.parameter(gamma, place, name) if norm.gamma else self.constant(gamma, place, name)
        operands = [first, *(self.parameter(spec, place, name) for spec in (beta, mean, variance))]
        return self.add(name, ops.BatchNorm(norm.eps, norm.momentum), [x, *operands], place, name)

    def activation(
        self, name: str, owner: str, found: Activate | None, place: Place, x: Value, layer: str = ""
    ) -> Value:
        """An activation as the node ``name``; ``owner`` is what prelu's parameter belongs to."""
        if found is None:
            return x
        if found.kind == "softmax":
            return self.add(name, ops.Softmax(), [x], place, layer)
        if found.kind == "prelu":
            slope = Init("constant", values=(found.alpha,))
            operand = self.vector(f"{owner}.weight", self.shape(x)[-1], slope, place, layer)
            return self.add(name, ops.PRelu(), [x, operand], place, layer)
        return self.add(name, ops.Activation(found.kind, found.alpha), [x], place, layer)

    def follow(self, found: Activate | None, place: Place, x: Value, layer: str = "") -> Value:
        """The activation that a statement ends with, a child of it."""
        child = f"{place.name}.{found.kind}" if found else ""
        return self.activation(child, child, found, place, x, layer)


def padding(wanted: Padding, settings: WindowSettings, shape: tuple[int, ...]) -> Pad:
    """Padding in numbers for an input of this shape."""
    if wanted.kind == "same":
        return same_padding(settings.kernel, settings.dilation)
    if wanted.kind == "causal":
        return causal_padding(settings.kernel, settings.dilation)
    if wanted.kind == "tf" and len(shape) == 3:
        return tensorflow_same_padding((shape[0], shape[1]), settings.kernel, settings.stride, settings.dilation)
    return wanted.pad
