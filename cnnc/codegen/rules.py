"""How each op's tile is computed at any place of a kernel."""

from __future__ import annotations

from collections.abc import Mapping

from cnnc.codegen import rules_descriptor
from cnnc.codegen.body import Body, Rule
from cnnc.codegen.place import Place
from cnnc.codegen.rules_channel import lrn
from cnnc.codegen.rules_conv import conv, conv_dgrad
from cnnc.codegen.rules_linear import linear
from cnnc.codegen.rules_pointwise import POINTWISE
from cnnc.codegen.rules_spread import depthwise_dgrad, global_avg_pool_grad, max_pool_grad, sum_or_avg_pool_grad
from cnnc.codegen.rules_window import depthwise, global_avg_pool, max_pool, sum_or_avg_pool
from cnnc.ir import ops
from cnnc.ir.ops import Op, is_depthwise


def _conv(body: Body, index: int, place: Place, onto: str | None) -> tuple[str, ...]:
    part = body.part(index)
    rule = depthwise if is_depthwise(part.op, body.types[part.operands[1]].shape) else CONV
    return rule(body, index, place, onto)


def _conv_dgrad(body: Body, index: int, place: Place, onto: str | None) -> tuple[str, ...]:
    part = body.part(index)
    rule = depthwise_dgrad if is_depthwise(part.op, body.types[part.operands[1]].shape) else CONV_DGRAD
    return rule(body, index, place, onto)


def _product(pointers: Rule, descriptors: Rule) -> Rule:
    """Which of two ways a product's factors are loaded in."""

    def rule(body: Body, index: int, place: Place, onto: str | None) -> tuple[str, ...]:
        return (descriptors if place.corner else pointers)(body, index, place, onto)

    return rule


CONV = _product(conv, rules_descriptor.conv)
CONV_DGRAD = _product(conv_dgrad, rules_descriptor.conv_dgrad)
LINEAR = _product(linear, rules_descriptor.linear)


RULES: Mapping[type[Op], Rule] = {
    **POINTWISE,
    ops.Conv: _conv,
    ops.ConvDgrad: _conv_dgrad,
    ops.Linear: LINEAR,
    ops.LinearDgrad: LINEAR,
    ops.Lrn: lrn,
    ops.MaxPool: max_pool,
    ops.AvgPool: sum_or_avg_pool,
    ops.SumPool: sum_or_avg_pool,
    ops.GlobalAvgPool: global_avg_pool,
    ops.MaxPoolGrad: max_pool_grad,
    ops.AvgPoolGrad: sum_or_avg_pool_grad,
    ops.SumPoolGrad: sum_or_avg_pool_grad,
    ops.GlobalAvgPoolGrad: global_avg_pool_grad,
}
