"""Activations and their gradients as expressions of Triton, element by element.

Of a gradient ``{v}`` is the output y, or the input x for ``ops.FROM_INPUT``. What chooses between two slopes is a
factor, since ptxas serialises wgmma (C7514) where the accumulator itself is selected.
"""

from __future__ import annotations

import re

from cnnc.codegen.kernel import Kernel
from cnnc.ir import ops

FORWARD = {
    "relu": "tl.where({x} <= 0.0, 0.0, {x})",
    "tanh": "tanh_of({x})",
    "sigmoid": "sigmoid_of({x})",
    "leaky_relu": "{x} * tl.where({x} <= 0.0, {alpha}, 1.0)",
    "elu": "elu_of({x}, {alpha})",
    "scaled_tanh": "1.7159 * tanh_of({x} * (2.0 / 3.0))",
    "hard_sigmoid": "hard_sigmoid_of({x})",
    "softsign": "{x} / (1.0 + tl.abs({x}))",
    "sign": "tl.where({x} >= {alpha}, 1.0, -1.0)",
    "sqrt": "tl.sqrt_rn({x})",
    "inverse_deviation": "inverse_deviation_of({x}, {alpha})",
}
GRADIENT = {
    "relu": "{dy} * tl.where({v} <= 0.0, 0.0, 1.0)",
    "tanh": "{dy} * (1.0 - {v}) * (1.0 + {v})",
    "sigmoid": "{dy} * {v} * (1.0 - {v})",
    "leaky_relu": "{dy} * tl.where({v} <= 0.0, {alpha}, 1.0)",
    "elu": "{dy} * tl.where({v} <= 0.0, {v} + {alpha}, 1.0)",
    "scaled_tanh": "{dy} * (1.7159 * 2.0 / 3.0) * (1.0 - {v} / 1.7159) * (1.0 + {v} / 1.7159)",
    "hard_sigmoid": "{dy} * tl.where(({v} <= 0.0) | ({v} >= 1.0), 0.0, 0.2)",
    "softsign": "{dy} * (1.0 - tl.abs({v})) * (1.0 - tl.abs({v}))",
    "sign": "{dy} * tl.where(tl.abs({v} - {alpha}) <= 1.0, 1.0, 0.0)",
    "sqrt": "{dy} * tl.where({v} <= 0.0, 0.0, 0.5 / {v})",
    "inverse_deviation": "{dy} * inverse_deviation_slope({v}, {alpha})",
}
PRELU = "{x} * tl.where({x} <= 0.0, {slope}, 1.0)"
PRELU_GRAD = "{dy} * tl.where({x} <= 0.0, {slope}, 1.0)"
PRELU_SLOPE_GRAD = "{dy} * tl.where({x} > 0.0, 0.0, {x})"


def activation(kernel: Kernel, op: ops.Activation, x: str, tag: str) -> str:
    """The expression of f(x)."""
    return _expression(kernel, FORWARD[op.kind], op.alpha, tag, x=x)


def activation_grad(kernel: Kernel, op: ops.ActivationGrad, dy: str, value: str, tag: str) -> str:
    """The expression of dy f'(x)."""
    return _expression(kernel, GRADIENT[op.kind], op.alpha, tag, dy=dy, v=value)


def _expression(kernel: Kernel, template: str, alpha: float, tag: str, **arguments: str) -> str:
    """The template with its arguments; declares the constant and the helpers that it reads."""
    if "{alpha}" in template:
        kernel.constant(**{f"ALPHA{tag}": alpha})
    kernel.helpers.extend(re.findall(r"\w+_(?:of|slope)(?=\()", template))
    return template.format(alpha=f"ALPHA{tag}", **arguments)
