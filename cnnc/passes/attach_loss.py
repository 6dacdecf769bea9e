"""What a gradient starts from: the losses and their labels, or a given gradient of the output."""

from __future__ import annotations

from cnnc.errors import CnnError
from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value
from cnnc.ir.model import Head, are_distances
from cnnc.ir.types import Element, format_shape
from cnnc.passes.autodiff import autodiff
from cnnc.passes.rewrite import Rewriter, copied

TARGET = "target"


def without_heads(graph: Graph, heads: tuple[Head, ...]) -> Graph:
    """The graph without what only training heads need; their parameters stay declared."""
    if not heads:
        return graph
    main = copied(graph)
    for head in heads:
        del main.outputs[head.name]
    # What nothing reads stays as it is in programs without heads: its batch norms see the images too.
    left_out = graph.live() - main.live()
    rewriter = Rewriter(main)
    for node in main.walk():
        if isinstance(node.op, ops.LEAVES):
            rewriter.copy(node)
        elif node.name in left_out or any(value.node in left_out for value in node.operands):
            left_out.add(node.name)
        else:
            rewriter.copy(node)
    return rewriter.done()


def attach_head_losses(graph: Graph, heads: tuple[Head, ...]) -> Graph:
    """The weighted cross-entropy of each training head in place of its output.

    ``attach_cross_entropy`` adds them to the loss and differentiates through them.

    Raises:
        CnnError: a head gives other scores than the network, so that they have no labels in common.
    """
    if not heads:
        return graph
    new = copied(graph)
    wanted = new.type_of(new.outputs["output"]).shape
    for head in heads:
        output = new.outputs.pop(head.name)
        shape = new.type_of(output).shape
        if shape != wanted:
            raise CnnError(
                f"head {head.name} ends with {format_shape(shape)}, but {graph.name} with {format_shape(wanted)}; "
                "both are trained on the same labels, so they must agree"
            )
        _cross_entropy(new, _logits(new, output), head.name, head.weight)
    return new


def attach_cross_entropy(graph: Graph) -> Graph:
    """Forward, mean cross-entropy over labels ``target`` (one per vector of logits), and all gradients.

    The loss reads the logits before a final softmax, which is left out, or negated distances (LeCun et al. 1998,
    equation 9 without its floor). Outputs ``loss``, the sum over all cross-entropies in the graph, and ``logits``.
    """
    new = copied(graph)
    logits = _logits(new, new.outputs.pop("output"))
    _cross_entropy(new, logits, "loss")
    losses = [node for node in new.walk() if isinstance(node.op, ops.CrossEntropy)]
    mean = new.add("loss", ops.BatchMean(), [node.value() for node in losses], layer="loss", span=new[logits.node].span)
    new.outputs = {"loss": mean.value(), "logits": logits, **new.outputs}
    return autodiff(new, [(node.operands[0], node.value(1)) for node in losses])


def attach_output_gradient(graph: Graph) -> Graph:
    """Forward and all gradients from ``doutput``, the gradient of the output, given by the caller."""
    new = copied(graph)
    output = new.outputs.pop("output")
    kind = new.type_of(output)
    doutput = new.add("doutput", ops.Input(kind.shape, kind.element), layer="doutput")
    return autodiff(new, [(output, doutput.value())], dinput=True)


def _logits(graph: Graph, output: Value) -> Value:
    """What cross-entropy reads of an output: larger is likelier, and the softmax is its own."""
    last = graph[output.node]
    if isinstance(last.op, ops.Softmax):
        return last.operands[0]
    if are_distances(graph, output):
        return graph.add(f"{last.name}.scores", ops.Scale(-1.0), [output], layer=last.layer, span=last.span).value()
    return output


def _cross_entropy(graph: Graph, logits: Value, layer: str, weight: float = 1.0) -> Node:
    """The loss of each image, and its gradient."""
    if TARGET not in graph:
        graph.add(TARGET, ops.Input(graph.type_of(logits).shape[:-1], Element.LABEL), layer="loss")
    name = graph.fresh(f"{layer}.rows")
    operands = [logits, Value(TARGET)]
    return graph.add(name, ops.CrossEntropy(weight), operands, layer=layer, span=graph[logits.node].span)
