"""How each op's tile is computed at any place of a kernel."""

from __future__ import annotations

from collections.abc import Mapping

from cnnc.codegen.body import Body, Rule
from cnnc.codegen.place import Place
from cnnc.codegen.rules_conv import conv, conv_dgrad
from cnnc.codegen.rules_linear import linear
from cnnc.codegen.rules_pointwise import POINTWISE
from cnnc.codegen.rules_window import depthwise, global_avg_pool, max_pool, sum_or_avg_pool
from cnnc.ir import ops
from cnnc.ir.ops import Op, is_depthwise


def _conv(body: Body, index: int, place: Place, onto: str | None) -> tuple[str, ...]:
    part = body.part(index)
    rule = depthwise if is_depthwise(part.op, body.types[part.operands[1]].shape) else conv
    return rule(body, index, place, onto)


RULES: Mapping[type[Op], Rule] = {
    **POINTWISE,
    ops.Conv: _conv,
    ops.ConvDgrad: conv_dgrad,
    ops.Linear: linear,
    ops.LinearDgrad: linear,
    ops.MaxPool: max_pool,
    ops.AvgPool: sum_or_avg_pool,
    ops.SumPool: sum_or_avg_pool,
    ops.GlobalAvgPool: global_avg_pool,
}
