"""Layers without filters to nodes: pools, norms, activations, and what moves pixels or channels."""

from __future__ import annotations

from dataclasses import replace

from cnnc.frontend.build_nodes import Nodes
from cnnc.frontend.layers import (
    ActivationLayer,
    BareLayer,
    ContrastLayer,
    CountLayer,
    CropLayer,
    DropoutLayer,
    NormLayer,
    Plain,
    PoolLayer,
    ResponseLayer,
    ScaleLayer,
    SubsampleLayer,
    UpsampleLayer,
    ZeroPadLayer,
)
from cnnc.ir import ops
from cnnc.ir.graph import Value
from cnnc.ir.params import Init, conv_spec, linear_spec
from cnnc.ir.types import Element
from cnnc.ir.window import Pair, Window, same_padding

_SPREAD = 0.25  # standard deviation of a contrast window over its size


def build_pool(nodes: Nodes, layer: PoolLayer, x: Value) -> Value:
    """Max, average, or the L2 norm of each window."""
    place, window = layer.place, nodes.window(layer.window, x)
    if layer.kind == "max":
        return nodes.add(place.name, ops.MaxPool(window), [x], place)
    if layer.kind == "avg":
        return nodes.add(place.name, ops.AvgPool(window, layer.count_pad), [x], place)
    nodes.image(x, place, "l2pool")
    squares = nodes.add(f"{place.name}.square", ops.Mul(), [x, x], place)
    sums = nodes.add(place.name, ops.SumPool(window), [squares], place)
    return nodes.add(f"{place.name}.sqrt", ops.Activation("sqrt"), [sums], place)


def build_subsample(nodes: Nodes, layer: SubsampleLayer, x: Value) -> Value:
    """``f(w * sum + b)`` with one w and b for each map (LeCun 1998)."""
    place, window = layer.place, nodes.window(layer.window, x)
    y = nodes.add(place.name, ops.SumPool(window), [x], place)
    channels, init = nodes.shape(y)[-1], Init("uniform", window.taps)
    factor = nodes.vector(f"{place.name}.weight", channels, init, place)
    y = nodes.add(f"{place.name}.scale", ops.ChannelScale(), [y, factor], place)
    bias = nodes.vector(f"{place.name}.bias", channels, init, place)
    y = nodes.add(f"{place.name}.add_bias", ops.BiasAdd(), [y, bias], place)
    return nodes.follow(layer.activation, place, y)


def build_contrast(nodes: Nodes, layer: ContrastLayer, x: Value) -> Value:
    """Local contrast normalisation (Jarrett et al. 2009, with a constant ``eps`` for the mean deviation).

    With Gaussian weights w over a window and all channels, ``sum w = 1``:
    ``v = x - sum(w x)`` and ``y = v / max(eps, sqrt(sum(w v^2)))``; pixels outside are zero.
    """
    place, name = layer.place, layer.place.name
    channels = nodes.image(x, place, "lcn")[2]
    window = Window(layer.kernel, pad=same_padding(layer.kernel, (1, 1)))
    deviation = _SPREAD * max(layer.kernel)
    spec = conv_spec(f"{name}.window", 1, layer.kernel, channels)
    spec = replace(spec, init=Init("gaussian", values=(deviation,)))
    if nodes.sequence:
        spec = replace(spec, torch_shape=spec.torch_shape[:3])
    gaussian = nodes.constant(spec, place, element=Element.REAL)
    ones = replace(linear_spec(f"{name}.ones", channels, 1), init=Init("ones"))
    to_all = nodes.constant(ones, place, element=Element.REAL)

    mean = nodes.add(f"{name}.mean", ops.Conv(window), [x, gaussian], place)
    minus = nodes.add(f"{name}.minus", ops.Scale(-1.0), [mean], place)
    means = nodes.add(f"{name}.means", ops.Linear(), [minus, to_all], place)
    v = nodes.add(f"{name}.centred", ops.Add(), [x, means], place)
    squares = nodes.add(f"{name}.squares", ops.Mul(), [v, v], place)
    variance = nodes.add(f"{name}.variance", ops.Conv(window), [squares, gaussian], place)
    inverse = nodes.add(f"{name}.inverse", ops.Activation("inverse_deviation", layer.eps), [variance], place)
    inverses = nodes.add(f"{name}.inverses", ops.Linear(), [inverse, to_all], place)
    return nodes.add(name, ops.Mul(), [v, inverses], place)


def build_plain(nodes: Nodes, layer: Plain, x: Value) -> Value:
    """A layer that works on each pixel alone, or on the whole."""
    place = layer.place
    if isinstance(layer, NormLayer):
        return nodes.follow(layer.activation, place, nodes.norm(place.name, layer.norm, place, x))
    if isinstance(layer, ActivationLayer):
        return nodes.activation(place.name, place.name, layer.activation, place, x)
    if isinstance(layer, ScaleLayer) and layer.factor is None:
        factor = nodes.vector(f"{place.name}.weight", nodes.shape(x)[-1], Init("ones"), place)
        return nodes.add(place.name, ops.ChannelScale(), [x, factor], place)
    return nodes.add(place.name, _plain_op(nodes, layer), [x], place)


def _plain_op(nodes: Nodes, layer: ResponseLayer | DropoutLayer | CountLayer | ScaleLayer | BareLayer) -> ops.Op:
    if isinstance(layer, ResponseLayer):
        return ops.Lrn(layer.n, layer.alpha, layer.beta, layer.k)
    if isinstance(layer, DropoutLayer):
        nodes.dropouts += 1
        return ops.Dropout(layer.rate, nodes.dropouts - 1)
    if isinstance(layer, CountLayer):
        return ops.Maxout(layer.count) if layer.keyword == "maxout" else ops.ChannelShuffle(layer.count)
    if isinstance(layer, ScaleLayer):
        assert layer.factor is not None
        return ops.Scale(layer.factor)
    return {"flatten": ops.Flatten(), "globalavgpool": ops.GlobalAvgPool()}[layer.keyword]


def build_upsample(nodes: Nodes, layer: UpsampleLayer, x: Value) -> Value:
    return nodes.add(layer.place.name, ops.Upsample(layer.factor, layer.mode), [x], layer.place)


def build_zeropad(nodes: Nodes, layer: ZeroPadLayer, x: Value) -> Value:
    return nodes.add(layer.place.name, ops.ZeroPad(layer.pad), [x], layer.place)


def build_crop(nodes: Nodes, layer: CropLayer, size: Pair, x: Value) -> Value:
    """A window of ``size``, in the middle unless told (the odd pixel after)."""
    place = layer.place
    height, width, _ = nodes.image(x, place, "crop")
    if size[0] > height or size[1] > width:
        wanted, given = (nodes.shown((*pair, 0)).rpartition("x")[0] for pair in (size, (height, width)))
        nodes.fail(place.blame("width"), f"a crop of {wanted} is larger than its input {given}", nodes.origin)
    offset = layer.offset or ((height - size[0]) // 2, (width - size[1]) // 2)
    return nodes.add(place.name, ops.Crop(offset, size), [x], place)
