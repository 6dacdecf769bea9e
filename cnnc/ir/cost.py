"""What an op costs: multiply-adds by op, FLOPs, and how summaries name each op."""

from __future__ import annotations

import math
from collections.abc import Callable

from cnnc.ir import ops
from cnnc.ir.types import TensorType

Types = tuple[TensorType, ...]


def _conv_macs(op: ops.Op, operands: Types, results: Types) -> int:
    return results[0].count * math.prod(operands[1].shape[1:])


def _dgrad_macs(op: ops.Op, operands: Types, results: Types) -> int:
    return operands[0].count * math.prod(operands[1].shape[1:])


def _wgrad_macs(op: ops.Op, operands: Types, results: Types) -> int:
    return operands[0].count * math.prod(results[0].shape[1:])


# Matrix work per image; one multiply-add counts 1. Biases, BN, pools and activations are not counted.
MACS: dict[type[ops.Op], Callable[[ops.Op, Types, Types], int]] = {
    ops.Conv: _conv_macs,
    ops.ConvDgrad: _dgrad_macs,
    ops.ConvWgrad: _wgrad_macs,
    ops.Linear: _conv_macs,
    ops.LinearDgrad: _dgrad_macs,
    ops.LinearWgrad: _wgrad_macs,
}


def macs(op: ops.Op, operands: Types, results: Types) -> int:
    """Multiply-adds per image of one op; 0 for what is not a matrix product. A fused op has its parts'."""
    if isinstance(op, ops.Fused):
        values = list(operands)
        total = 0
        for part in op.parts:
            inputs = tuple(values[i] for i in part.operands)
            outputs = part.op.infer(*inputs)
            total += macs(part.op, inputs, outputs)
            values.extend(outputs)
        return total
    rule = MACS.get(type(op))
    return rule(op, operands, results) if rule else 0
