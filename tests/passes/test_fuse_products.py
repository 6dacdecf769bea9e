"""Products that go on in the accumulator of the kernel that adds them, and those that do not."""

from __future__ import annotations

import pytest

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Value
from cnnc.ir.verify import verify
from cnnc.ir.window import Window
from cnnc.passes.dead_code import dead_code
from cnnc.passes.fuse import fuse_epilogues
from cnnc.passes.fuse_products import fuse_products, refusal
from cnnc.passes.pipelines import meaning, optimise
from cnnc.passes.pointwise_conv import pointwise_conv
from cnnc.passes.rewrite import Rewriter
from cnnc.passes.roofline import roofline_us
from tests.passes.networks import Builder
from tests.passes.test_swap_pools import as_model, check_outputs, computed


def block(stride: int = 1, groups: int = 1, *, act: str = "") -> Builder:
    """A residual block whose shortcut is a projection."""
    net = Builder(8, 7, 6)
    start = net.conv("conv1", 4, 3, stride, 1)
    net.op("relu1", ops.Activation("relu"))
    net.conv("conv2", 10, 3, 1, 1, groups)
    deep = net.bias("bias2")
    net.last = Value("input")
    net.conv("project", 10, 1, stride)
    net.bias("shift")
    if act:
        net.op("act", ops.Activation(act))
    net.op("add", ops.Add(), deep)
    net.op("relu", ops.Activation("relu"))
    assert start.node == "conv1"
    return net


def fused(graph: Graph) -> Graph:
    return verify(dead_code(fuse_epilogues(pointwise_conv(graph))))


@pytest.mark.parametrize("stride", [1, 2])
def test_a_projection_becomes_more_channels(stride: int) -> None:
    net = block(stride)
    model = as_model(net.done())
    before = fused(model.graph)
    after = verify(fuse_products(before))
    assert computed(before) == ["relu1", "shift", "relu"]
    assert computed(after) == ["relu1", "relu"]
    op = after["relu"].op
    assert isinstance(op, ops.Fused)
    assert isinstance(op.anchor, ops.Conv)
    assert op.parts[op.main].name == "conv2"
    assert roofline_us(after) < roofline_us(before)
    check_outputs(model.graph, after, model)
    check_outputs(meaning(model, "infer"), optimise(model, "infer"), model)


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_of_one_value(stride: int) -> None:
    """All layers' gradients of what they read: with strides, the programs are those of the strided one."""
    model = as_model(_arms((1, stride), (1, stride), (3, 1)))
    graph = optimise(model, "vjp", frozenset({"merge_siblings"}))
    (kernel,) = [node for node in graph.walk() if _dgrads(node.op) > 1]
    assert isinstance(kernel.op, ops.Fused)
    assert _dgrads(kernel.op) == 3
    strided = [isinstance(part.op, ops.ConvDgrad) and part.op.window.stride != (1, 1) for part in kernel.op.parts]
    assert strided[kernel.op.main] == (stride == 2)
    check_outputs(meaning(model, "vjp"), graph, model)


def _arms(*windows: tuple[int, int]) -> Graph:
    """Convolutions of one value, by kernel and stride, and the sum of what they give."""
    net = Builder(9, 8, 3)
    net.conv("stem", 6, 3, 1, 1)
    start = net.op("act", ops.Activation("tanh"))
    ends = []
    for number, (kernel, stride) in enumerate(windows):
        net.last = start
        net.conv(f"arm{number}", 5, kernel, stride, kernel // 2)
        net.op(f"tanh{number}", ops.Activation("tanh"))
        ends.append(net.op(f"mean{number}", ops.GlobalAvgPool()))
    net.last = ends[0]
    for number, end in enumerate(ends[1:]):
        net.op(f"sum{number}", ops.Add(), end)
    return net.done()


def _dgrads(op: ops.Op) -> int:
    parts = op.parts if isinstance(op, ops.Fused) else ()
    return sum(isinstance(part.op, ops.LinearDgrad | ops.ConvDgrad) for part in parts)


def reason(graph: Graph, name: str = "relu", slot: str = "shift") -> str | None:
    graph = fused(graph)
    return refusal(Rewriter(graph), graph[name], Value(slot))


def test_who_else_reads_the_term_keeps_it() -> None:
    net = block()
    assert reason(net.done()) is None
    net.graph.add("other", ops.Activation("relu"), [Value("shift")])
    net.graph.outputs["more"] = Value("other")
    assert reason(net.graph) == "%shift has other users or is an output"
    net = block()
    assert reason(net.done(output=net.last, term=Value("shift"))) == "%shift has other users or is an output"


def test_terms_that_are_no_sums_of_products() -> None:
    assert reason(block(groups=2).done()) == "relu has 2 groups"
    assert reason(block(act="tanh").done(), slot="act") == "activation follows the product of act"
    net = block()
    assert reason(net.done(), slot="relu1") == "relu does not add %relu1 to its product"
    net = Builder(8, 7, 6)
    pooled = net.op("pool", ops.MaxPool(Window((3, 3), pad=(1, 1, 1, 1))))
    net.last = Value("input")
    net.conv("conv", 6, 3, 1, 1)
    net.op("add", ops.Add(), pooled)
    assert reason(net.done(), "add", "conv") == "add is no product"
    assert reason(block().done(), "relu1", "input") == "input is no product"


def test_a_factor_is_no_term() -> None:
    net = block()
    net.last = Value("bias2")
    net.op("mul", ops.Mul(), Value("shift"))
    graph = fused(dead_code(_only(net, "mul")))
    kernel = next(node for node in graph.walk() if node.name == "mul")
    other = next(value for value in kernel.operands if value.node in ("shift", "bias2"))
    assert refusal(Rewriter(graph), kernel, other) == f"mul does not add {other} to its product"


def _only(net: Builder, name: str) -> Graph:
    return net.done(output=Value(name))


def test_gradients_of_different_strides() -> None:
    model = as_model(_arms((3, 2), (3, 3)))
    graph = optimise(model, "vjp", frozenset({"fuse_products"}))
    kernel = next(node for node in graph.walk() if isinstance(node.op, ops.Fused) and _dgrads(node.op) == 1)
    (other,) = [value for value in kernel.operands if isinstance(graph[value.node].op, ops.ConvDgrad)]
    assert refusal(Rewriter(graph), kernel, other) == "their strides part the pixels in different ways"
    check_outputs(meaning(model, "vjp"), optimise(model, "vjp"), model)
