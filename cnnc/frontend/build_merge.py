"""Merges and shortcuts to nodes."""

from __future__ import annotations

from cnnc.frontend.build_nodes import Nodes
from cnnc.frontend.layer_parts import Affine, Padding, WindowSettings
from cnnc.frontend.layers import ConvLayer, MergeLayer, ShortcutLayer, StridedCopyLayer
from cnnc.ir import ops
from cnnc.ir.graph import Value
from cnnc.ir.window import Pair

_MAX_LISTED = 4


def build_merge(nodes: Nodes, layer: MergeLayer, values: list[Value]) -> Value:
    """Scaled operands summed, multiplied or joined one after another, then the activation.

    A merge of one operand is that operand.
    """
    place, name = layer.place, layer.place.name
    _check_shapes(nodes, layer, values)
    for at, (factor, _) in enumerate(layer.operands):
        if factor != 1:
            values[at] = nodes.add(f"{name}.scale{at + 1}", ops.Scale(factor), [values[at]], place)
    y = values[0]
    if layer.kind == "concat" and len(values) > 1:
        y = nodes.add(name, ops.Concat(), values, place)
    elif layer.kind != "concat":
        op = ops.Add() if layer.kind == "add" else ops.Mul()
        for at, value in enumerate(values[1:], 2):
            # The last one has the merge's own name.
            y = nodes.add(name if at == len(values) else f"{name}.{at}", op, [y, value], place)
    return nodes.follow(layer.activation, place, y)


def _check_shapes(nodes: Nodes, layer: MergeLayer, values: list[Value]) -> None:
    joined = layer.kind == "concat"
    shapes = [nodes.shape(value) for value in values]
    compared = [shape[:-1] if joined else shape for shape in shapes]
    odd = next((at for at, shape in enumerate(compared) if shape != compared[0]), None)
    if odd is None:
        return
    shown = range(len(shapes)) if len(shapes) <= _MAX_LISTED else (0, odd)
    arms = [f"`{layer.operands[at][1]}` {nodes.shown(shapes[at])}" for at in shown]
    images = "equal lengths" if nodes.sequence else "equal heights and widths"
    message = f"`{layer.kind}` needs {images if joined else 'equal shapes'}: {', '.join(arms)}"
    hint = None
    if joined and all(len(shape) == 3 for shape in shapes):
        size = "a sequence to another's length" if nodes.sequence else "an image to another's height and width"
        hint = f"`crop like` and a layer's name cut {size}"
    nodes.fail(layer.place.blame(f"operand{odd + 1}"), message, hint)


def settle_shortcut(
    nodes: Nodes, layer: ShortcutLayer, target: tuple[int, ...], x: Value
) -> ConvLayer | StridedCopyLayer | None:
    """What a shortcut is for this target: nothing where shapes agree already, else a strided copy (A) or a
    projection (B); C always projects (He et al. 2015).
    """
    shape, place = nodes.shape(x), layer.place
    if shape == target and layer.option != "C":
        return None
    if len(shape) != 3 or len(target) != 3:
        message = f"no shortcut leads from {nodes.shown(shape)} to {nodes.shown(target)}"
        nodes.fail(place.head, message, nodes.origin)
    stride = _stride(shape, target)
    if stride is None:
        message = f"no stride leads from {nodes.shown(shape)} to {nodes.shown(target)}"
        nodes.fail(place.head, message, f"{nodes.origin}; the other arms end in `{layer.like}`")
    if layer.option == "A":
        return StridedCopyLayer(place, stride, target[2])
    affine = Affine(target[2], layer.bias, layer.norm, None)
    return ConvLayer(place, WindowSettings((1, 1), stride, Padding("explicit")), 1, affine)


def build_strided_copy(nodes: Nodes, layer: StridedCopyLayer, x: Value) -> Value:
    """Option A: every s-th pixel, zeros for the channels that are new."""
    place = layer.place
    channels = nodes.image(x, place, "shortcut")[2]
    if layer.width < channels:
        message = f"`shortcut A` can't drop channels: {channels} to {layer.width}"
        nodes.fail(place.head, message, f"{nodes.origin}; `shortcut B` projects")
    return nodes.add(place.name, ops.PadShortcut(layer.stride, layer.width), [x], place)


def _stride(shape: tuple[int, ...], target: tuple[int, ...]) -> Pair | None:
    """The smallest stride that maps one size to the other, rounding up."""
    strides = [-(-n // wanted) for n, wanted in zip(shape[:2], target[:2], strict=True)]
    found = [-(-n // stride) for n, stride in zip(shape[:2], strides, strict=True)]
    return (strides[0], strides[1]) if tuple(found) == target[:2] else None
