"""How far what a compilation computes is from what the program means."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Value
from cnnc.runtime.arrays import Array, to_torch

SMALL = 1e-3  # of the largest output's norm: an output below it counts as if it had that norm


def relative_error(got: Array, want: Array, floor: float = 0.0) -> float:
    """``|got - want| / max(|want|, floor)`` in the L2 norm; infinite where ``got`` is not finite."""
    got, want = got.astype(np.float64).reshape(-1), want.astype(np.float64).reshape(-1)
    if not np.isfinite(got).all():
        return float("inf")
    norm = max(float(np.linalg.norm(want)), floor)
    return float(np.linalg.norm(got - want)) / (norm if norm > 0 else 1.0)


def output_errors(
    before: Graph, reference: Mapping[Value, Array], after: Graph, values: Mapping[Value, Array]
) -> dict[str, float]:
    """Relative L2 errors of the outputs that two graphs have in common, by name; values are by each graph's own."""
    norms = [float(np.linalg.norm(reference[value])) for value in before.outputs.values()]
    errors = {}
    for name, value in before.outputs.items():
        if name in after.outputs:
            other = after.outputs[name]
            want = canonical_output(before, name, value, reference[value])
            got = canonical_output(after, name, other, values[other])
            errors[name] = relative_error(got, want, SMALL * max(norms))
    return errors


def canonical_output(graph: Graph, name: str, value: Value, array: Array) -> Array:
    """An output in an order that does not depend on how a pass stores parameters: gradients as PyTorch has them."""
    kind, _, parameter = name.partition(":")
    if kind != "grad" or array.ndim == 1:
        return array
    if isinstance(graph[value.node].op, ops.Zeros):
        return array.reshape(-1)  # the same in any order
    leaves = [node.op.spec for node in graph.walk() if isinstance(node.op, ops.Parameter)]
    stored = next(spec for spec in leaves if spec.name == parameter and spec.shape == graph.type_of(value).shape)
    return to_torch(stored, array)
