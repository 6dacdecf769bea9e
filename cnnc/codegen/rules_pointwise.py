"""Ops on one element at a time, as expressions of the tiles and vectors that they read."""

from __future__ import annotations

import math
from collections.abc import Callable

from cnnc.codegen import activations
from cnnc.codegen.body import Body, Rule
from cnnc.codegen.place import Place
from cnnc.ir import ops
from cnnc.ir.ops import Op

Arguments = list[str]
Expression = Callable[[Body, Place, Op, Arguments, str], str]


def _product(body: Body, place: Place, op: Op, arguments: Arguments, tag: str) -> str:
    return f"{arguments[0]} * {arguments[1]}"


def _identity(body: Body, place: Place, op: Op, arguments: Arguments, tag: str) -> str:
    return arguments[0]


def _scale(body: Body, place: Place, op: Op, arguments: Arguments, tag: str) -> str:
    assert isinstance(op, ops.Scale)
    body.kernel.constant(**{f"FACTOR{tag}": op.factor})
    return f"{arguments[0]} * FACTOR{tag}"


def _activation(body: Body, place: Place, op: Op, arguments: Arguments, tag: str) -> str:
    assert isinstance(op, ops.Activation)
    return activations.activation(body.kernel, op, arguments[0], tag)


def _activation_grad(body: Body, place: Place, op: Op, arguments: Arguments, tag: str) -> str:
    assert isinstance(op, ops.ActivationGrad)
    return activations.activation_grad(body.kernel, op, arguments[0], arguments[1], tag)


def _prelu(body: Body, place: Place, op: Op, arguments: Arguments, tag: str) -> str:
    return activations.PRELU.format(x=arguments[0], slope=arguments[1])


def _prelu_grad(body: Body, place: Place, op: Op, arguments: Arguments, tag: str) -> str:
    return activations.PRELU_GRAD.format(dy=arguments[0], x=arguments[1], slope=arguments[2])


def _prelu_slope_grad(body: Body, place: Place, op: Op, arguments: Arguments, tag: str) -> str:
    return activations.PRELU_SLOPE_GRAD.format(dy=arguments[0], x=arguments[1])


def _dropout(body: Body, place: Place, op: Op, arguments: Arguments, tag: str) -> str:
    assert isinstance(op, ops.Dropout)
    kernel, rows = body.kernel, place.rows
    seed, step = kernel.runtime("seed"), kernel.runtime("step")
    # Layers differ in their stream alone: a runtime number, so that they share one kernel.
    stream = kernel.integer(f"stream{tag}", op.stream, hint=False)
    kernel.constant(**{f"THRESHOLD{tag}": math.ceil(op.rate * 2**32), f"SCALE{tag}": 1.0 / (1.0 - op.rate)})
    kernel.helpers.append("keep")
    pixel = place.pixel(rows.width, rows.height) if rows.image else "n.to(tl.int64)[:, None]"
    key = f"{tag}{place.key}"
    kernel.write(
        f"element{key} = {pixel} * {place.channels} + {place.channel}[None, :]\n"
        f"kept{key} = keep(element{key}, {stream}, {seed}, {step}, THRESHOLD{tag})"
    )
    return f"tl.where(kept{key}, {arguments[0]} * SCALE{tag}, 0.0)"


def _batch_norm(body: Body, place: Place, op: Op, arguments: Arguments, tag: str) -> str:
    assert isinstance(op, ops.BatchNorm)
    body.kernel.constant(**{f"EPS{tag}": op.eps})
    x, gamma, beta, mean, var = arguments
    return f"({x} - {mean}) * ({gamma} / tl.sqrt_rn({var} + EPS{tag})) + {beta}"


def _batch_norm_input_grad(body: Body, place: Place, op: Op, arguments: Arguments, tag: str) -> str:
    assert isinstance(op, ops.BatchNormInputGrad)
    body.kernel.constant(**{f"EPS{tag}": op.eps})
    dy, x, mean, var, gamma, dgamma, dbeta = arguments
    key = f"{tag}{place.key}"
    body.kernel.write(
        f"""
        inverse{key} = 1.0 / tl.sqrt_rn({var} + EPS{tag})
        count{key} = {place.rows.total} * 1.0
        xhat{key} = ({x} - {mean}) * inverse{key}
        centred{key} = {dy} - {dbeta} / count{key} - xhat{key} * ({dgamma} / count{key})
        """
    )
    return f"{gamma} * inverse{key} * centred{key}"


def _batch_norm_scale(body: Body, place: Place, op: Op, arguments: Arguments, tag: str) -> str:
    assert isinstance(op, ops.BatchNormScale)
    body.kernel.constant(**{f"EPS{tag}": op.eps})
    dy, gamma, var = arguments
    return f"{dy} * ({gamma} / tl.sqrt_rn({var} + EPS{tag}))"


def channel_affine(body: Body, index: int, place: Place, onto: str | None) -> tuple[str, ...]:
    """``a + shift + slope x`` with vectors that begin before the tile's channels."""
    part = body.part(index)
    assert isinstance(part.op, ops.ChannelAffine)
    tag = str(index) if index else ""
    key = f"{tag}{place.key}"
    a, x = (body.value(number, place, name) for number, name in zip(part.operands, ("a", "x"), strict=False))
    body.kernel.integers(**{f"START{tag}": part.op.start})
    for number, name in zip(part.operands[2:], ("shift", "slope"), strict=True):
        pointer = body.pointer(number, name)
        at = f"{pointer} + START{tag} + {place.channel}"
        body.kernel.write(f"{name}_of{key} = tl.load({at}, mask={place.channel_live}, other=0.0)[None, :]")
    text = f"{a} + shift_of{key} + slope_of{key} * {x}"
    body.kernel.write(f"value{key} = {f'{onto} + ' if onto else ''}{text}")
    return (f"value{key}",)


def pointwise(names: tuple[str, ...], expression: Expression) -> Rule:
    """The rule of an op whose operands are called ``names``."""

    def rule(body: Body, index: int, place: Place, onto: str | None) -> tuple[str, ...]:
        part = body.part(index)
        tag = str(index) if index else ""
        arguments = [body.value(i, place, name) for i, name in zip(part.operands, names, strict=True)]
        text = expression(body, place, part.op, arguments, tag)
        variable = f"value{tag}{place.key}"
        body.kernel.write(f"{variable} = {f'{onto} + ' if onto else ''}{text}")
        return (variable,)

    return rule


def sum_of(names: tuple[str, ...]) -> Rule:
    """The rule of a sum: a product among its terms goes on in the accumulator of what it is added to."""

    def rule(body: Body, index: int, place: Place, onto: str | None) -> tuple[str, ...]:
        first, second = body.part(index).operands
        variable = f"value{index or ''}{place.key}"
        if onto is not None:
            total = body.added(first, place, onto)
        else:
            total = body.value(first, place, names[0])
        if body.maker(second) is None:
            total = f"{total} + {body.value(second, place, names[1])}"
        elif first == second:
            total = f"{total} + {body.value(second, place)}"
        else:
            total = body.added(second, place, total)
        body.kernel.write(f"{variable} = {total}")
        return (variable,)

    return rule


# The op's operands are named, so that kernels read well: a bias is a bias, a residual a residual.
POINTWISE: dict[type[Op], Rule] = {
    ops.BiasAdd: sum_of(("x", "bias")),
    ops.PositionBias: sum_of(("x", "bias")),
    ops.Add: sum_of(("x", "residual")),
    ops.Activation: pointwise(("x",), _activation),
    ops.ActivationGrad: pointwise(("dy", "y"), _activation_grad),
    ops.PRelu: pointwise(("x", "slope"), _prelu),
    ops.PReluGrad: pointwise(("dy", "x", "slope"), _prelu_grad),
    ops.PReluSlopeGrad: pointwise(("dy", "x"), _prelu_slope_grad),
    ops.Identity: pointwise(("x",), _identity),
    ops.Scale: pointwise(("x",), _scale),
    ops.ChannelScale: pointwise(("x", "factor"), _product),
    ops.Mul: pointwise(("x", "factor"), _product),
    ops.Dropout: pointwise(("x",), _dropout),
    ops.BatchNormScale: pointwise(("dy", "gamma", "var"), _batch_norm_scale),
    ops.ChannelAffine: channel_affine,
    ops.BatchNorm: pointwise(("x", "gamma", "beta", "mean", "var"), _batch_norm),
    ops.BatchNormInputGrad: pointwise(("dy", "x", "mean", "var", "gamma", "dgamma", "dbeta"), _batch_norm_input_grad),
}
