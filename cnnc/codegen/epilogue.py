"""What a kernel computes on its tile before it stores it: the parts of a fused group, one line each.

The tile is ``[rows, channels]`` in float32. The text around it defines ``live`` (rows that exist),
``channel`` and ``channel_live``, and the coordinates that the kernel's ``Rows`` name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from cnnc.codegen import activations
from cnnc.codegen.context import Context
from cnnc.codegen.kernel import Kernel
from cnnc.codegen.rows import Rows, operand
from cnnc.ir import ops
from cnnc.ir.ops import Op
from cnnc.ir.plan import Buffer


@dataclass
class Tail:
    """The end of one kernel: values by number, and the operands loaded so far."""

    context: Context
    kernel: Kernel
    rows: Rows
    values: dict[int, str] = field(default_factory=dict)
    channels: str = "C"  # the number of channels, as text

    def operand(self, number: int, name: str) -> str:
        """The variable that holds a value: computed before, or loaded now."""
        if number not in self.values:
            buffer = self.context.inputs[number]
            load = self._tile if buffer.batched else self._vector if len(buffer.shape) == 1 else self._positions
            self.values[number] = load(buffer, name)
        return self.values[number]

    def _tile(self, buffer: Buffer, name: str) -> str:
        pointer = operand(self.kernel, name, buffer)
        variable = f"{pointer}_tile"
        self.kernel.write(
            f"{pointer}_row = {self.rows.offsets(pointer)}\n"
            f"{pointer}_at = {pointer} + {pointer}_row[:, None] + channel[None, :]\n"
            f"{variable} = tl.load({pointer}_at, mask=tile_live, other=0.0).to(tl.float32)"
        )
        return variable

    def _vector(self, buffer: Buffer, name: str) -> str:
        pointer = self.kernel.pointer(name, buffer)
        variable = f"{pointer}_vector"
        load = f"tl.load({pointer} + channel, mask=channel_live, other=0.0).to(tl.float32)"
        self.kernel.write(f"{variable} = {load}[None, :]")
        return variable

    def _positions(self, buffer: Buffer, name: str) -> str:
        """An unbatched image: the same for every image of the batch."""
        pointer = self.kernel.pointer(name, buffer)
        variable = f"{pointer}_tile"
        self.kernel.write(
            f"{pointer}_row = ({self.rows.h}.to(tl.int64) * {self.rows.width} + {self.rows.w}) * {self.channels}\n"
            f"{pointer}_at = {pointer} + {pointer}_row[:, None] + channel[None, :]\n"
            f"{variable} = tl.load({pointer}_at, mask=tile_live, other=0.0).to(tl.float32)"
        )
        return variable

    def store(self, number: int, buffer: Buffer) -> None:
        """Write one value to its buffer, rounded to the buffer's dtype."""
        pointer = operand(self.kernel, "out", buffer)
        self.kernel.write(
            f"{pointer}_row = {self.rows.offsets(pointer)}\n"
            f"{pointer}_at = {pointer} + {pointer}_row[:, None] + channel[None, :]\n"
            f"tl.store({pointer}_at, {self.values[number]}.to({pointer}.dtype.element_ty), mask=tile_live)"
        )


Arguments = list[str]
Part = Callable[[Tail, Op, Arguments, str], str]


def _sum(tail: Tail, op: Op, arguments: Arguments, tag: str) -> str:
    return f"{arguments[0]} + {arguments[1]}"


def _product(tail: Tail, op: Op, arguments: Arguments, tag: str) -> str:
    return f"{arguments[0]} * {arguments[1]}"


def _identity(tail: Tail, op: Op, arguments: Arguments, tag: str) -> str:
    return arguments[0]


def _scale(tail: Tail, op: Op, arguments: Arguments, tag: str) -> str:
    assert isinstance(op, ops.Scale)
    tail.kernel.constant(**{f"FACTOR{tag}": op.factor})
    return f"{arguments[0]} * FACTOR{tag}"


def _activation(tail: Tail, op: Op, arguments: Arguments, tag: str) -> str:
    assert isinstance(op, ops.Activation)
    return activations.activation(tail.kernel, op, arguments[0], tag)


def _activation_grad(tail: Tail, op: Op, arguments: Arguments, tag: str) -> str:
    assert isinstance(op, ops.ActivationGrad)
    return activations.activation_grad(tail.kernel, op, arguments[0], arguments[1], tag)


def _prelu(tail: Tail, op: Op, arguments: Arguments, tag: str) -> str:
    return activations.PRELU.format(x=arguments[0], slope=arguments[1])


def _prelu_grad(tail: Tail, op: Op, arguments: Arguments, tag: str) -> str:
    return activations.PRELU_GRAD.format(dy=arguments[0], x=arguments[1], slope=arguments[2])


def _prelu_slope_grad(tail: Tail, op: Op, arguments: Arguments, tag: str) -> str:
    return activations.PRELU_SLOPE_GRAD.format(dy=arguments[0], x=arguments[1])


def _dropout(tail: Tail, op: Op, arguments: Arguments, tag: str) -> str:
    assert isinstance(op, ops.Dropout)
    kernel, rows = tail.kernel, tail.rows
    seed, step = kernel.runtime("seed"), kernel.runtime("step")
    # Layers differ in their stream alone: a runtime number, so that they share one kernel.
    stream = kernel.integer(f"stream{tag}", op.stream, hint=False)
    kernel.constant(**{f"THRESHOLD{tag}": math.ceil(op.rate * 2**32), f"SCALE{tag}": 1.0 / (1.0 - op.rate)})
    kernel.helpers.append("keep")
    pixel = f"(n.to(tl.int64) * {rows.height} + {rows.h}) * {rows.width} + {rows.w}" if rows.image else "n.to(tl.int64)"
    kernel.write(
        f"element{tag} = (({pixel}) * {tail.channels})[:, None] + channel[None, :]\n"
        f"kept{tag} = keep(element{tag}, {stream}, {seed}, {step}, THRESHOLD{tag})"
    )
    return f"tl.where(kept{tag}, {arguments[0]} * SCALE{tag}, 0.0)"


def _batch_norm(tail: Tail, op: Op, arguments: Arguments, tag: str) -> str:
    assert isinstance(op, ops.BatchNorm)
    tail.kernel.constant(**{f"EPS{tag}": op.eps})
    x, gamma, beta, mean, var = arguments
    return f"({x} - {mean}) * ({gamma} / tl.sqrt_rn({var} + EPS{tag})) + {beta}"


def _batch_norm_input_grad(tail: Tail, op: Op, arguments: Arguments, tag: str) -> str:
    assert isinstance(op, ops.BatchNormInputGrad)
    kernel = tail.kernel
    kernel.constant(**{f"EPS{tag}": op.eps})
    dy, x, mean, var, gamma, dgamma, dbeta = arguments
    kernel.write(
        f"""
        inverse{tag} = 1.0 / tl.sqrt_rn({var} + EPS{tag})
        count{tag} = {tail.rows.total} * 1.0
        xhat{tag} = ({x} - {mean}) * inverse{tag}
        centred{tag} = {dy} - {dbeta} / count{tag} - xhat{tag} * ({dgamma} / count{tag})
        """
    )
    return f"{gamma} * inverse{tag} * centred{tag}"


# One row per op that a tile's tail can compute: its operand names, its expression.
PARTS: dict[type[Op], tuple[tuple[str, ...], Part]] = {
    ops.BiasAdd: (("x", "bias"), _sum),
    ops.PositionBias: (("x", "bias"), _sum),
    ops.Activation: (("x",), _activation),
    ops.ActivationGrad: (("dy", "y"), _activation_grad),
    ops.PRelu: (("x", "slope"), _prelu),
    ops.PReluGrad: (("dy", "x", "slope"), _prelu_grad),
    ops.PReluSlopeGrad: (("dy", "x"), _prelu_slope_grad),
    ops.Identity: (("x",), _identity),
    ops.Scale: (("x",), _scale),
    ops.ChannelScale: (("x", "factor"), _product),
    ops.Mul: (("x", "factor"), _product),
    ops.Add: (("x", "residual"), _sum),
    ops.Dropout: (("x",), _dropout),
    ops.BatchNorm: (("x", "gamma", "beta", "mean", "var"), _batch_norm),
    ops.BatchNormInputGrad: (("dy", "x", "mean", "var", "gamma", "dgamma", "dbeta"), _batch_norm_input_grad),
}


LABELS = {
    "bias_add": "bias",
    "p_relu": "prelu",
    "p_relu_grad": "prelu_grad",
    "p_relu_slope_grad": "prelu_slope_grad",
    "batch_norm": "bn",
    "batch_norm_input_grad": "bn_input_grad",
}


def label(op: Op) -> str:
    """The word an op adds to a kernel's name."""
    if isinstance(op, ops.Activation):
        return op.kind
    if isinstance(op, ops.ActivationGrad):
        return f"{op.kind}_grad"
    return LABELS.get(op.name, op.name)


def chain_name(context: Context, first: str = "") -> str:
    """``conv_fprop_bias_relu``: the anchor's name and what follows it."""
    start = 1 if first else 0
    words = [first] if first else []
    return "_".join(words + [label(part.op) for part in context.parts[start:]])


def chain_text(context: Context, start: int) -> str:
    """What follows the anchor, for a kernel's docstring."""
    words = ", ".join(label(part.op).replace("_", " ") for part in context.parts[start:])
    return f" Then {words}, on the tile in registers." if words and start else ""


def finish(context: Context, kernel: Kernel, rows: Rows, computed: list[str], channels: str = "C") -> None:
    """Compute the parts that follow and store what leaves the kernel.

    ``computed`` are the variables of the anchor's outputs; empty if the anchor itself is pointwise.
    ``channels`` names the number of channels in the text.
    """
    tail = Tail(context, kernel, rows, channels=channels)
    number = len(context.inputs)
    start = 0
    if computed:
        tail.values.update({number + slot: variable for slot, variable in enumerate(computed)})
        number += len(context.anchor_types)
        start = 1
    kernel.write("tile_live = live[:, None] & channel_live[None, :]")
    for place, part in enumerate(context.parts[start:], start=start):
        names, expression = PARTS[type(part.op)]
        arguments = [tail.operand(value, name) for value, name in zip(part.operands, names, strict=True)]
        tag = str(place) if place else ""
        text = expression(tail, part.op, arguments, tag)
        variable = f"value{tag}"
        kernel.write(f"{variable} = {text}")
        tail.values[number] = variable
        number += 1
    for value, buffer in zip(context.results, context.outputs, strict=True):
        if buffer is not None:
            tail.store(value, buffer)
