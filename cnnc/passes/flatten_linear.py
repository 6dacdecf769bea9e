"""A fully connected layer after a flatten is a convolution as large as its image.

``flatten`` orders CHW, kernels store images with the channels innermost: instead of moving the
activations, the weight is stored KRSC (ParamSpec's permutation) and a valid convolution with a kernel
of the image's size gives the same sums. Its output is 1x1xK; the flatten of a 1x1 image moves
nothing (the planner makes it a view), and sinks below what acts on one element or the last axis, so
that conv + bias + activation stay neighbours.
"""

from __future__ import annotations

from dataclasses import replace

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value
from cnnc.ir.window import Window
from cnnc.passes.rewrite import Rewriter, reread

SINKABLE = (
    ops.Linear,
    ops.BiasAdd,
    ops.Activation,
    ops.PRelu,
    ops.Identity,
    ops.Scale,
    ops.ChannelScale,
    ops.Dropout,
    ops.BatchNorm,
    ops.BatchNormTrain,
)


def flatten_linear(graph: Graph) -> Graph:
    """Linear(Flatten(image)) becomes Conv(image); flattens of 1x1 images sink."""
    rewriter = Rewriter(graph)
    for node in graph.walk():
        source = _flattened(rewriter, node)
        if source is None:
            rewriter.copy(node)
        elif rewriter.new.type_of(source).shape[:2] == (1, 1):
            _sink(rewriter, node, node.op, source, [rewriter.get(value) for value in node.operands[1:]])
        elif isinstance(node.op, ops.Linear) and _stored_anew(graph, node.operands[1]):
            _to_conv(rewriter, node, source)
        else:
            rewriter.copy(node)
    return rewriter.done()


def _flattened(rewriter: Rewriter, node: Node) -> Value | None:
    """The image under the flatten that a sinkable node reads."""
    if not isinstance(node.op, SINKABLE):
        return None
    producer = rewriter.new[rewriter.get(node.operands[0]).node]
    return producer.operands[0] if isinstance(producer.op, ops.Flatten) else None


def _sink(rewriter: Rewriter, node: Node, op: ops.Op, source: Value, others: list[Value]) -> None:
    """The op on the image, then the flatten; other outputs (statistics) are per channel either way."""
    image = rewriter.add(node.name, op, [source, *others], node)
    flat = rewriter.add(rewriter.new.fresh(f"{node.name}.flat"), ops.Flatten(), [image.value()], node)
    rewriter.replace(node.value(), flat.value())


def _stored_anew(graph: Graph, weight: Value) -> bool:
    """Whether a weight's parameter may be stored in another order: a mask by column would no longer fit."""
    node = graph[weight.node]
    return isinstance(node.op, ops.Parameter) or (
        isinstance(node.op, ops.Binarize) and _stored_anew(graph, node.operands[0])
    )


def _to_conv(rewriter: Rewriter, node: Node, source: Value) -> None:
    height, width, channels = rewriter.new.type_of(source).shape

    def krsc(parameter: ops.Parameter) -> ops.Parameter:
        view = (parameter.spec.torch_shape[0], channels, height, width)
        return replace(parameter, spec=replace(parameter.spec, view=view, perm=(0, 2, 3, 1)))

    weight = reread(rewriter, node.operands[1], "krsc", krsc)
    _sink(rewriter, node, ops.Conv(Window((height, width))), source, [weight])
