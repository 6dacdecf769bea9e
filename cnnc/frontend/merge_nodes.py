"""Merges and shortcuts in terms of ops, once the shapes of what they read are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cnnc.errors import ShapeError
from cnnc.frontend.layers import (
    Affine,
    ConvLayer,
    MergeLayer,
    Padding,
    ShortcutLayer,
    StridedCopyLayer,
    WindowSettings,
)
from cnnc.ir import ops
from cnnc.ir.graph import Value
from cnnc.ir.types import format_shape

AddNode = Callable[[str, ops.Op, Sequence[Value]], Value]
Shape = tuple[int, ...]


def merge_nodes(layer: MergeLayer, operands: Sequence[Value], add: AddNode) -> Value:
    """The nodes of a merge without its activation; sums and products group to the left.

    Raises:
        ShapeError: the operands do not fit each other.
    """
    name = layer.place.name
    scaled: list[Value] = []
    for slot, (factor, _) in enumerate(layer.operands):
        value = operands[slot]
        scaled.append(value if factor == 1.0 else add(f"{name}.scale{slot + 1}", ops.Scale(factor), [value]))
    if layer.kind == "concat":
        return add(name, ops.Concat(), scaled)
    if len(scaled) == 1:
        return add(name, ops.Identity(), scaled)
    op = ops.Add() if layer.kind == "add" else ops.Mul()
    value = scaled[0]
    for slot, other in enumerate(scaled[1:], 2):
        value = add(name if slot == len(scaled) else f"{name}.{layer.kind}{slot}", op, [value, other])
    return value


def explain_merge(layer: MergeLayer, shapes: Sequence[Shape], error: ShapeError) -> tuple[str, str, str | None]:
    """Which operand does not fit (an attribute of the layer's place), the message and a hint."""

    def fits(shape: Shape) -> bool:
        return shape[:-1] == shapes[0][:-1] and len(shape) == len(shapes[0]) and (is_concat or shape == shapes[0])

    is_concat = layer.kind == "concat"
    odd = next((slot for slot, shape in enumerate(shapes) if not fits(shape)), None)
    if odd is None:
        return "", error.message, error.hint
    rule = "equal heights and widths" if is_concat else "equal shapes"
    first, other = layer.operands[0][1], layer.operands[odd][1]
    message = f"`{layer.kind}` needs {rule}: `{other}` has {format_shape(shapes[odd])}"
    return f"operand{odd + 1}", message, f"`{first}` has {format_shape(shapes[0])}"


def shortcut(layer: ShortcutLayer, shape: Shape, like: Shape) -> ConvLayer | StridedCopyLayer | None:
    """What a shortcut from ``shape`` to ``like`` becomes; None is the identity.

    Raises:
        ShapeError: no stride leads there, or option A would have to drop channels.
    """
    if shape == like and layer.option != "C":
        return None
    place = layer.place
    shown = f"from {format_shape(shape)} to {format_shape(like)}"
    if len(shape) != 3 or len(like) != 3:
        raise ShapeError(f"`shortcut` leads {shown}, and only images can be projected")
    stride = (-(-shape[0] // like[0]), -(-shape[1] // like[1]))
    if any(-(-shape[axis] // stride[axis]) != like[axis] for axis in (0, 1)):
        raise ShapeError(f"no stride of a `shortcut` leads {shown}")
    if layer.option == "A":
        if like[2] < shape[2]:
            raise ShapeError(f"`shortcut A` can't drop channels, {shown}", "", "`shortcut B` projects")
        return StridedCopyLayer(place, stride, like[2])
    window = WindowSettings((1, 1), stride, Padding("explicit"))
    return ConvLayer(place, window, 1, Affine(like[2], layer.bias, layer.norm, None))
