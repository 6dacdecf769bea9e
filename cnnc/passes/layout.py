"""Where the axes of a value lie in memory, per target. Users never see it: inputs and outputs are NHWC.

On GPUs activations are ``[H, W, N, C]``: an attribute of the buffers until a card has measured it;
the kernels read strides and serve NHWC as well. On the CPU they are NHWC with the halo that their
convolutions pad with, so that padding costs nothing.
"""

from __future__ import annotations

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Value
from cnnc.ir.plan import Space
from cnnc.ir.types import TensorType
from cnnc.ir.window import Pad

NO_HALO: Pad = (0, 0, 0, 0)


def axes_of(kind: TensorType, space: Space, target: str) -> str:
    """Storage order of a value, outermost axis first."""
    if not kind.batched:
        return "".join(str(axis) for axis in range(len(kind.shape)))
    if len(kind.shape) == 3:
        return "NHWC" if target == "cpu" or space in (Space.INPUT, Space.OUTPUT) else "HWNC"
    return {0: "N", 1: "NC", 2: "NHW"}[len(kind.shape)]


def halos(graph: Graph, target: str) -> dict[Value, Pad]:
    """The widest padding among the convolutions that read each image; none on GPUs, where masks serve."""
    result: dict[Value, Pad] = {}
    if target != "cpu":
        return result
    for node in graph.walk():
        op = node.op.anchor if isinstance(node.op, ops.Fused) else node.op
        slot = {ops.Conv: 0, ops.ConvWgrad: 1}.get(type(op))
        if slot is None or not isinstance(op, ops.Conv | ops.ConvWgrad):
            continue
        value = node.operands[slot]
        result[value] = widest(result.get(value, NO_HALO), op.window.pad)
    return {value: pad for value, pad in result.items() if any(pad)}


def widest(a: Pad, b: Pad) -> Pad:
    """The wider of two borders on each side."""
    return max(a[0], b[0]), max(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])
