"""Advice with its arithmetic: convs that small filters would make cheaper (VGG, NIN and Inception's reasons)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from cnnc.ir import ops
from cnnc.ir.graph import Node, Value
from cnnc.ir.model import Model
from cnnc.ir.types import format_shape
from cnnc.report.layers import Layer

MAX_LINES = 5
WORTHWHILE = 0.01  # of the network's multiply-adds
FEWEST_CHANNELS = 16
QUARTER = 4  # an inception module's 1x1 convs leave a quarter of its input's channels


@dataclass(frozen=True)
class Advice:
    """One change: the layers it is for, and all their weights and multiply-adds before and after."""

    layers: tuple[str, ...]
    change: str
    weights: tuple[int, int]
    macs: tuple[int, int]
    text: str

    @property
    def saved(self) -> int:
        """Multiply-adds fewer."""
        return self.macs[0] - self.macs[1]

    def json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "layers": list(self.layers),
            "change": self.change,
            "weights": list(self.weights),
            "macs": list(self.macs),
            "text": self.text,
        }


@dataclass(frozen=True)
class _Square:
    """A conv of k x k at stride 1 on HxWxC that keeps its image's size and depth."""

    kernel: int
    image: tuple[int, int]
    channels: int
    pointwise_input: bool  # a 1x1 conv stands before it already

    @property
    def in_bottleneck(self) -> bool:
        """Whether its only smaller form is a 1x3 and a 3x1."""
        return self.kernel == 3 and self.pointwise_input


@dataclass(frozen=True)
class _Arm:
    """One arm of a module: a conv or pool at stride 1 that reads the module's input itself."""

    layer: Layer
    kernel: int
    filters: int  # 0 for a pool


def advise(model: Model, layers: tuple[Layer, ...], total_macs: int) -> tuple[Advice, ...]:
    """The largest savings first; none where none is true, and few."""
    if model.sequence:
        return ()
    made = {node.name: layer for layer in layers for node in layer.computed}
    groups: dict[_Square, list[str]] = {}
    found: list[Advice] = []
    for layer in layers:
        square = _square(model, layer, made)
        if square is not None:
            groups.setdefault(square, []).append(layer.name)
        elif layer.op == "concat":
            found += _narrower_module(model, layer, made)
    found += [_smaller_filters(square, names) for square, names in groups.items() if not square.in_bottleneck]
    least = WORTHWHILE * total_macs
    worth = sorted(filter(lambda item: item.saved >= least, found), key=lambda item: -item.saved)[:MAX_LINES]
    if worth:
        return tuple(worth)
    return tuple(item for item in _split_all(groups) if item.saved >= least)


# -- one conv -----------------------------------------------------------------------------------------


def _square(model: Model, layer: Layer, made: dict[str, Layer]) -> _Square | None:
    conv = _plain_conv(model, layer)
    if conv is None:
        return None
    assert isinstance(conv.op, ops.Conv)
    kernel, x = conv.op.window.kernel, model.graph.type_of(conv.operands[0]).shape
    kept = conv.types[0].shape == x and x[2] >= FEWEST_CHANNELS and x[2] % 2 == 0
    if not kept or kernel[0] != kernel[1] or kernel[0] % 2 == 0 or kernel[0] < 3:
        return None
    pointwise_input = _pointwise(model, conv.operands[0], made) is not None
    return _Square(kernel[0], (x[0], x[1]), x[2], pointwise_input)


def _plain_conv(model: Model, layer: Layer) -> Node | None:
    """The layer's conv, if it is one with ordinary trained weights, dense in its channels, at stride 1."""
    conv = layer.main
    if not isinstance(conv.op, ops.Conv) or conv.op.groups > 1:
        return None
    if conv.op.window.stride != (1, 1) or conv.op.window.dilation != (1, 1):
        return None
    weight = model.graph[conv.operands[1].node].op
    return conv if isinstance(weight, ops.Parameter) and weight.spec.trainable and not weight.spec.clipped else None


def _smaller_filters(square: _Square, names: list[str]) -> Advice:
    k, c, pixels = square.kernel, square.channels, square.image[0] * square.image[1]
    before = k * k * c * c
    if k == 3:
        change, after = f"1x1 to {c // 2}, 3x3, 1x1 back to {c}", 13 * c * c // 4
        formula, other = "3.25C^2", ""
    else:
        count = (k - 1) // 2
        change, after = f"{_count(count)} 3x3, which see {k}x{k} too", 9 * count * c * c
        formula, other = f"{9 * count}C^2", f"; or 1x{k} then {k}x1: {2 * k}C^2"
    times = f"{len(names)} times " if len(names) > 1 else ""
    text = (
        f"{_names(names)}: {k}x{k} on {format_shape((*square.image, c))} as {change}:"
        f" {k * k}C^2 -> {formula}, {times}{before:,} -> {after:,} weights"
        f" and {before * pixels:,} -> {after * pixels:,} MACs{other}"
    )
    weights = len(names) * before, len(names) * after
    return Advice(tuple(names), change, weights, (weights[0] * pixels, weights[1] * pixels), text)


def _split_all(groups: dict[_Square, list[str]]) -> list[Advice]:
    """All 3x3 convs split in two, in one line: a third less, where a bottleneck's 1x1 convs save more already."""
    threes = {square: group for square, group in groups.items() if square.kernel == 3}
    names = [name for group in threes.values() for name in group]
    if not names:
        return []
    base = sum(len(group) * square.channels**2 for square, group in threes.items())
    macs = sum(len(group) * square.channels**2 * math.prod(square.image) for square, group in threes.items())
    change = "1x3 then 3x1"
    text = (
        f"{_names(names)}: {'each ' if len(names) > 1 else ''}3x3 as {change}: 9C^2 -> 6C^2,"
        f" {'together ' if len(names) > 1 else ''}{9 * base:,} -> {6 * base:,} weights"
        f" and {9 * macs:,} -> {6 * macs:,} MACs"
    )
    return [Advice(tuple(names), change, (9 * base, 6 * base), (9 * macs, 6 * macs), text)]


def _count(number: int) -> str:
    return {2: "two", 3: "three", 4: "four", 5: "five"}.get(number, str(number))


def _names(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]} ... {names[-1]}"


# -- an inception module ------------------------------------------------------------------------------


def _narrower_module(model: Model, concat: Layer, made: dict[str, Layer]) -> list[Advice]:
    """1x1 convs to a quarter of the channels before a module's larger convs and after its pools (GoogLeNet)."""
    arms = _arms(model, concat, made)
    if arms is None or not any(arm.filters and arm.kernel > 1 for arm in arms):
        return []
    x = _arm_input(arms[0].layer)
    height, width, channels = model.graph.type_of(x).shape
    pixels, narrow = height * width, channels // QUARTER
    if narrow < FEWEST_CHANNELS or _narrowed(model, x, made):
        return []
    weights_before = weights_after = depth = 0
    details = []
    for arm in arms:
        k, filters = arm.kernel, arm.filters
        before = k * k * channels * filters
        if filters and k == 1:
            after = before
        elif filters:
            after = channels * narrow + k * k * narrow * filters
            details.append(
                f"{k}x{k} {before * pixels:,} -> {channels * narrow * pixels:,} + {k * k * narrow * filters * pixels:,}"
            )
        else:
            after = channels * narrow
            details.append(f"pool 0 -> {after * pixels:,}")
        weights_before, weights_after = weights_before + before, weights_after + after
        depth += filters or narrow
    macs = weights_before * pixels, weights_after * pixels
    places = "before its larger convs" + (" and after its pools" if any(not arm.filters for arm in arms) else "")
    change = f"1x1 convs to {narrow} = {channels}/{QUARTER} channels {places}"
    old = format_shape(model.graph.type_of(concat.output).shape)
    text = (
        f"{concat.name}: {change} give {format_shape((height, width, depth))} for {old}:"
        f" {macs[0]:,} -> {macs[1]:,} MACs ({'; '.join(details)})"
    )
    return [Advice((concat.name,), change, (weights_before, weights_after), macs, text)]


def _arms(model: Model, concat: Layer, made: dict[str, Layer]) -> list[_Arm] | None:
    """The arms of a module whose every arm is one conv or pool of the same value, at stride 1."""
    arms: list[_Arm] = []
    for operand in concat.main.operands:
        layer = _source(model, operand, made)
        arm = _arm(model, layer) if layer else None
        if arm is None or (arms and _arm_input(arm.layer) != _arm_input(arms[0].layer)):
            return None
        arms.append(arm)
    return arms


def _arm(model: Model, layer: Layer) -> _Arm | None:
    op = layer.main.op
    if isinstance(op, ops.MaxPool | ops.AvgPool):
        return _Arm(layer, op.window.kernel[0], 0) if op.window.stride == (1, 1) else None
    conv = _plain_conv(model, layer)
    if conv is None or not isinstance(conv.op, ops.Conv) or len(set(conv.op.window.kernel)) > 1:
        return None
    return _Arm(layer, conv.op.window.kernel[0], conv.types[0].shape[2])


def _arm_input(layer: Layer) -> Value:
    return layer.main.operands[0]


_PASSED: tuple[type[ops.Op], ...] = (ops.BatchNorm, ops.Activation, ops.PRelu, ops.Dropout)


def _narrowed(model: Model, value: Value, made: dict[str, Layer]) -> bool:
    """Whether a 1x1 conv with fewer channels out than in computes a value (a fire module's squeeze)."""
    conv = _pointwise(model, value, made)
    return conv is not None and conv.types[0].shape[2] < model.graph.type_of(conv.operands[0]).shape[2]


def _pointwise(model: Model, value: Value, made: dict[str, Layer]) -> Node | None:
    """The 1x1 conv that computes a value, if it is one."""
    layer = _source(model, value, made)
    op = layer.main.op if layer else None
    return layer.main if layer and isinstance(op, ops.Conv) and op.window.taps == 1 else None


def _source(model: Model, value: Value, made: dict[str, Layer]) -> Layer | None:
    """The layer that computes a value, batch norms and activations behind it passed over."""
    while True:
        layer = made.get(value.node)
        if layer is None or not isinstance(layer.main.op, _PASSED):
            return layer
        value = layer.main.operands[0]
