"""Layers with weights to nodes: convolutions of every kind, fully connected layers, distances from codes."""

from __future__ import annotations

from dataclasses import replace

from cnnc.frontend.build_nodes import Nodes, padding
from cnnc.frontend.layer_parts import Affine, Place, Weights, WindowSettings
from cnnc.frontend.layers import ConvLayer, DeconvLayer, DenseLayer, DepthwiseLayer, RbfLayer
from cnnc.ir import ops
from cnnc.ir.graph import Value
from cnnc.ir.params import Init, ParamSpec, conv_spec, linear_spec
from cnnc.ir.types import Element
from cnnc.ir.window import Pair, Window, transposed_image, transposed_same_padding


def build_conv(nodes: Nodes, layer: ConvLayer, x: Value) -> Value:
    """A conv with its bias, batch norm and activation."""
    place = layer.place
    window = nodes.window(layer.window, x)
    shape = nodes.shape(x)
    depth = shape[-1] // layer.groups if len(shape) == 3 else 1
    spec = _flat(nodes, conv_spec(f"{place.name}.weight", layer.affine.width, window.kernel, depth))
    weight = _weight(nodes, spec, layer.affine.weights, place)
    if layer.connect:
        weight = _masked(nodes, layer, weight, depth)
    y = nodes.add(place.name, ops.Conv(window, layer.groups), [x, weight], place)
    return _epilogue(nodes, layer.affine, place, y, depth * window.taps)


def build_depthwise(nodes: Nodes, layer: DepthwiseLayer, x: Value) -> Value:
    """A conv with a group, and ``multiplier`` filters, for each channel."""
    place = layer.place
    channels = nodes.image(x, place, "dwconv")[2]
    window = nodes.window(layer.window, x)
    affine = replace(layer.affine, width=channels * layer.multiplier)
    spec = _flat(nodes, conv_spec(f"{place.name}.weight", affine.width, window.kernel, 1))
    weight = _weight(nodes, spec, affine.weights, place)
    y = nodes.add(place.name, ops.Conv(window, channels), [x, weight], place)
    return _epilogue(nodes, affine, place, y, window.taps)


def build_deconv(nodes: Nodes, layer: DeconvLayer, x: Value) -> Value:
    """A transposed conv: the gradient of a conv as forward op, with PyTorch's (in, out/groups, kH, kW) weights."""
    place, groups, width = layer.place, layer.groups, layer.affine.width
    *rows, channels = nodes.image(x, place, "deconv")
    if channels % groups or width % groups:
        message = f"groups={groups} must divide {channels} input channels and {width} filters"
        nodes.fail(place.blame("groups"), message, nodes.origin)
    window, image = _transposed(nodes, layer.window, place, (rows[0], rows[1]))
    shape = (channels, width // groups, *window.kernel)
    fan_in = width // groups * window.taps  # PyTorch's rule, which counts the outputs here
    spec = _flat(nodes, ParamSpec(f"{place.name}.weight", shape, shape, (0, 2, 3, 1), Init("uniform", fan_in)))
    weight = _weight(nodes, spec, layer.affine.weights, place)
    y = nodes.add(place.name, ops.ConvDgrad(window, image, groups), [x, weight], place)
    return _epilogue(nodes, layer.affine, place, y, fan_in)


def build_dense(nodes: Nodes, layer: DenseLayer, x: Value) -> Value:
    """A linear layer over a vector."""
    place = layer.place
    features = nodes.shape(x)[-1]
    spec = linear_spec(f"{place.name}.weight", layer.affine.width, features)
    weight = _weight(nodes, spec, layer.affine.weights, place)
    y = nodes.add(place.name, ops.Linear(), [x, weight], place)
    return _epilogue(nodes, layer.affine, place, y, features)


def build_rbf(nodes: Nodes, layer: RbfLayer, x: Value) -> Value:
    """Distances from fixed codes."""
    place = layer.place
    spec = linear_spec(f"{place.name}.weight", layer.count, nodes.shape(x)[-1])
    spec = _started(nodes, spec, Weights(layer.codes, fixed=True), place, "codes")
    codes = nodes.parameter(spec, place)
    return nodes.add(place.name, ops.Rbf(), [x, codes], place)


def _flat(nodes: Nodes, spec: ParamSpec) -> ParamSpec:
    """In a 1-D net PyTorch's weights have no width."""
    return replace(spec, torch_shape=spec.torch_shape[:3]) if nodes.sequence else spec


def _weight(nodes: Nodes, spec: ParamSpec, weights: Weights, place: Place) -> Value:
    """The weights as the product reads them: of the compute dtype, signs of the master where they are binary."""
    spec = _started(nodes, spec, weights, place, "weights")
    if not weights.binary:
        return nodes.parameter(spec, place, element=Element.REAL)
    master = nodes.parameter(replace(spec, clipped=not weights.fixed), place)
    return nodes.add(f"{place.name}.binarize", ops.Binarize(), [master], place)


def _started(nodes: Nodes, spec: ParamSpec, weights: Weights, place: Place, what: str) -> ParamSpec:
    """With the initial values that the statement gives; their number must fit."""
    init = Init("bilinear") if weights.bilinear else spec.init
    if weights.values:
        if len(weights.values) != spec.count:
            shape = "x".join(map(str, spec.torch_shape))
            message = f"{len(weights.values)} {what} for a weight {shape}, which takes {spec.count}"
            nodes.fail(place.blame(what), message, nodes.origin)
        init = Init("values", values=weights.values)
    return replace(spec, init=init, trainable=not weights.fixed)


def _masked(nodes: Nodes, layer: ConvLayer, weight: Value, channels: int) -> Value:
    """The weights of a sparsely connected conv."""
    place = layer.place
    largest = max(map(max, layer.connect))
    if largest >= channels:
        message = f"`connect` names input map {largest}, but the input has {channels}, counted from 0"
        nodes.fail(place.blame("connect"), message, nodes.origin)
    ones = tuple(float(channel in row) for row in layer.connect for channel in range(channels))
    spec = linear_spec(f"{place.name}.mask", len(layer.connect), channels)
    mask = nodes.constant(replace(spec, init=Init("values", values=ones)), place)
    return nodes.add(f"{place.name}.connect", ops.MaskWeight(), [weight, mask], place)


def _transposed(nodes: Nodes, settings: WindowSettings, place: Place, rows: Pair) -> tuple[Window, Pair]:
    """The window of the conv that this one transposes, and the size of its input, which is our output."""
    wanted = settings.padding
    pad = padding(wanted, settings, ()) if wanted.kind == "explicit" else (0, 0, 0, 0)
    if wanted.kind != "explicit":
        pad = transposed_same_padding(settings.kernel, settings.stride, settings.dilation)
        if min(pad) < 0:
            hint = "`same` makes the output as large as the input times the stride"
            nodes.fail(place.blame("pad"), "`same` needs a kernel at least as large as the stride", hint)
    window = Window(settings.kernel, settings.stride, pad, settings.dilation)
    image = transposed_image(rows, window)
    if min(image) < 1:
        shown = nodes.shown((*rows, 1)).rpartition("x")[0]
        nodes.fail(place.blame("pad"), f"this padding leaves nothing of the output of {shown} pixels", nodes.origin)
    return window, image


def _epilogue(nodes: Nodes, affine: Affine, place: Place, y: Value, fan_in: int) -> Value:
    """Bias, batch norm, activation: in this order, however they are written."""
    name, layer = place.name, place.name
    init = Init("uniform", fan_in)
    if affine.bias and affine.position_bias:
        y = nodes.add(f"{name}.add_bias", ops.PositionBias(), [y, _position_bias(nodes, place, y, init)], place)
    elif affine.bias:
        bias = nodes.vector(f"{name}.bias", affine.width, init, place)
        y = nodes.add(f"{name}.add_bias", ops.BiasAdd(), [y, bias], place)
    if affine.norm:
        layer = f"{name}.bn"
        y = nodes.norm(layer, affine.norm, place, y)
    return nodes.follow(affine.activation, place, y, layer)


def _position_bias(nodes: Nodes, place: Place, y: Value, init: Init) -> Value:
    height, width, channels = nodes.shape(y)
    view = (channels, height, width)
    spec = ParamSpec(f"{place.name}.bias", view, view, (1, 2, 0), init, decay=nodes.decay_all)
    if nodes.sequence:
        spec = replace(spec, torch_shape=view[:2])
    return nodes.parameter(spec, place)
