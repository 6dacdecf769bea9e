"""What a gradient starts from: the loss and its labels, or a given gradient of the output."""

from __future__ import annotations

from cnnc.errors import CnnError
from cnnc.ir import ops
from cnnc.ir.graph import Graph
from cnnc.ir.types import Element, format_shape
from cnnc.passes.autodiff import autodiff
from cnnc.passes.rewrite import Rewriter


def attach_cross_entropy(graph: Graph) -> Graph:
    """Forward, mean cross-entropy over labels ``target``, and all gradients.

    Reads the logits before a final softmax, which is left out; outputs ``loss`` and ``logits``.
    """
    rewriter = Rewriter(graph)
    for node in graph.walk():
        rewriter.copy(node)
    new = rewriter.done()
    last = new[new.outputs.pop("output").node]
    logits = last.operands[0] if isinstance(last.op, ops.Softmax) else last.value()
    shape = new.type_of(logits).shape
    if len(shape) != 1:
        raise CnnError(
            f"cross_entropy needs one vector of logits per image, but {graph.name} ends with {format_shape(shape)}; "
            "end it with `fc` or a global pool"
        )
    target = new.add("target", ops.Input((), Element.LABEL), layer="loss")
    rows = new.add("loss.rows", ops.CrossEntropy(), [logits, target.value()], layer="loss", span=last.span)
    loss = new.add("loss", ops.BatchMean(), [rows.value()], layer="loss", span=last.span)
    new.outputs = {"loss": loss.value(), "logits": logits, **new.outputs}
    return autodiff(new, logits, rows.value(1))


def attach_output_gradient(graph: Graph) -> Graph:
    """Forward and all gradients from ``doutput``, the gradient of the output, given by the caller."""
    rewriter = Rewriter(graph)
    for node in graph.walk():
        rewriter.copy(node)
    new = rewriter.done()
    output = new.outputs.pop("output")
    kind = new.type_of(output)
    doutput = new.add("doutput", ops.Input(kind.shape, kind.element), layer="doutput")
    return autodiff(new, output, doutput.value(), dinput=True)
