"""What an op costs: multiply-adds by op, and the connections that a program's own layers have."""

from __future__ import annotations

import math
from collections.abc import Callable

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node
from cnnc.ir.params import ParamSpec
from cnnc.ir.types import TensorType

Types = tuple[TensorType, ...]


def _conv_macs(op: ops.Op, operands: Types, results: Types) -> int:
    return results[0].count * math.prod(operands[1].shape[1:])


def _dgrad_macs(op: ops.Op, operands: Types, results: Types) -> int:
    return operands[0].count * math.prod(operands[1].shape[1:])


def _wgrad_macs(op: ops.Op, operands: Types, results: Types) -> int:
    return operands[0].count * math.prod(results[0].shape[1:])


def _rbf_grad_macs(op: ops.Op, operands: Types, results: Types) -> int:
    return operands[2].count


# Matrix work per image; one multiply-add counts 1. Biases, BN, pools and activations are not counted.
MACS: dict[type[ops.Op], Callable[[ops.Op, Types, Types], int]] = {
    ops.Conv: _conv_macs,
    ops.ConvDgrad: _dgrad_macs,
    ops.ConvWgrad: _wgrad_macs,
    ops.Linear: _conv_macs,
    ops.LinearDgrad: _dgrad_macs,
    ops.LinearWgrad: _wgrad_macs,
    ops.Rbf: _conv_macs,
    ops.RbfGrad: _rbf_grad_macs,
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


def layer_macs(graph: Graph, node: Node) -> int:
    """Multiply-adds per image of one node of a program, as papers count them.

    A conv with a mask (LeNet-5's C3) counts the connections it has; a product with an op's own constants
    (a Gaussian window) is no layer of weights and counts nothing.
    """
    count = macs(node.op, tuple(map(graph.type_of, node.operands)), node.types)
    if not count:
        return 0
    weight = graph[node.operands[1].node]
    if isinstance(weight.op, ops.MaskWeight):
        ones, all_pairs = _connections(graph, weight)
        return count * ones // all_pairs
    if isinstance(weight.op, ops.Parameter) and not weight.op.spec.listed:
        return 0
    return count


def weight_counts(graph: Graph) -> dict[str, int]:
    """Elements of each listed parameter, by node; those of a masked weight that its mask keeps."""
    counts: dict[str, int] = {}
    for node in graph.walk():
        if isinstance(node.op, ops.Parameter) and node.op.spec.listed:
            counts[node.name] = node.op.spec.count
        elif isinstance(node.op, ops.MaskWeight) and node.operands[0].node in counts:
            ones, all_pairs = _connections(graph, node)
            counts[node.operands[0].node] = counts[node.operands[0].node] * ones // all_pairs
    return counts


def _connections(graph: Graph, masked: Node) -> tuple[int, int]:
    """Ones of a mask, and its size; each stands for one filter's kernel over one input map."""
    spec = _spec(graph[masked.operands[1].node])
    if spec.init.kind == "values":
        return sum(value != 0 for value in spec.init.values), spec.count
    return spec.count, spec.count


def _spec(node: Node) -> ParamSpec:
    assert isinstance(node.op, ops.Parameter), "a mask is a constant"
    return node.op.spec
