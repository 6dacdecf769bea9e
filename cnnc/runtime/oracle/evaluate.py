"""Evaluation of one op and of whole graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value
from cnnc.ir.types import Element
from cnnc.runtime.arrays import Array, to_stored
from cnnc.runtime.oracle.table import EVALUATE
from cnnc.runtime.scalars import Scalars


def evaluate_op(op: ops.Op, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    """Results of one op; a fused op runs its parts one after the other.

    Images are ``[N, H, W, C]``, vectors ``[N, C]``, labels ``[N]``, parameters as they are stored; results
    have the operands' float dtype.
    """
    if isinstance(op, ops.Fused):
        values = list(operands)
        for part in op.parts:
            values.extend(evaluate_op(part.op, [values[i] for i in part.operands], scalars))
        return tuple(values[i] for i in op.results)
    return EVALUATE[type(op)](op, operands, scalars)


def evaluate(
    graph: Graph,
    inputs: Mapping[str, Array],
    params: Mapping[str, Array],
    *,
    dtype: npt.DTypeLike = np.float64,
    scalars: Scalars,
) -> dict[Value, Array]:
    """Every value of a graph.

    Args:
        inputs: one array per Input node, by node name: ``[N, H, W, C]``, ``[N, C]`` or labels ``[N]``.
        params: parameters and buffers by ``ParamSpec.name``, shaped as PyTorch has them.
        dtype: the float dtype of all arithmetic.
    """
    values: dict[Value, Array] = {}
    for node in graph.walk():
        results = _leaf(node, inputs, params, np.dtype(dtype))
        if results is None:
            results = evaluate_op(node.op, [values[value] for value in node.operands], scalars)
        values.update({node.value(i): result for i, result in enumerate(results)})
    return values


def _leaf(
    node: Node, inputs: Mapping[str, Array], params: Mapping[str, Array], dtype: np.dtype[np.generic]
) -> tuple[Array, ...] | None:
    """The given array of an input or parameter; None for a computed node."""
    if isinstance(node.op, ops.Input):
        given = np.asarray(inputs[node.name])
        real = node.op.element in (Element.REAL, Element.ACC)
        return (given.astype(dtype if real else np.int64),)
    if isinstance(node.op, ops.Parameter):
        spec = node.op.spec
        return (to_stored(spec, np.asarray(params[spec.name])).astype(dtype),)
    return None
