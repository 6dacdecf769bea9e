"""Values computed in the kernels that read them: which, where they are stored after all, and why not."""

from __future__ import annotations

import pytest

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Value
from cnnc.ir.params import linear_spec
from cnnc.ir.types import Element
from cnnc.ir.verify import verify
from cnnc.passes.dead_code import dead_code
from cnnc.passes.drafts import Drafts
from cnnc.passes.fuse import fuse_epilogues
from cnnc.passes.fuse_prologues import fuse_prologues, refusal, storing_refusal, too_early
from cnnc.passes.pipelines import meaning, optimise
from cnnc.passes.pointwise_conv import pointwise_conv
from cnnc.passes.prologues import NARROW
from cnnc.passes.roofline import roofline_us
from tests.passes.networks import Builder
from tests.passes.test_swap_pools import as_model, check_outputs, computed

WIDE = NARROW + 5  # channels of convolutions that would compute too much for each of their taps


def applied(net: Builder, name: str, *, skip: Value | None = None) -> Value:
    """A batch norm that nothing before it can compute, since others read its image, and what follows it."""
    net.norm(f"{name}.bn")
    if skip is not None:
        net.op(f"{name}.add", ops.Add(), skip)
    return net.op(name, ops.Activation("relu"))


def started() -> tuple[Builder, Value]:
    net = Builder(6, 5, 7)
    return net, net.conv("stem", 9, 3, 1, 1)


def ready(graph: Graph) -> Graph:
    return verify(dead_code(fuse_epilogues(pointwise_conv(graph))))


def after(graph: Graph) -> Graph:
    return verify(dead_code(fuse_prologues(graph)))


def parts_of(graph: Graph, name: str) -> list[str]:
    op = graph[name].op
    return [part.op.name for part in op.parts] if isinstance(op, ops.Fused) else [op.name]


def checked(net: Builder, **outputs: Value) -> tuple[Graph, Graph]:
    """The graph before and after, which mean the same, the second in no more time."""
    model = as_model(net.done(**outputs))
    before = ready(model.graph)
    found = after(before)
    assert roofline_us(found) <= roofline_us(before)
    check_outputs(model.graph, found, model)
    check_outputs(meaning(model, "infer"), optimise(model, "infer"), model)
    return before, found


def test_a_single_image_is_computed_in_every_reader() -> None:
    """Over a concatenation nothing can be folded: the norm becomes part of both products, and of the pool."""
    net, stem = started()
    net.op("both", ops.Concat(), stem)
    value = applied(net, "act")
    left = net.conv("left", 4, 1)
    net.last = value
    right = net.op("pool", ops.GlobalAvgPool())
    before, found = checked(net, left=left, right=right)
    assert computed(before) == ["stem", "both", "act", "left", "pool"]
    assert computed(found) == ["stem", "both", "left", "pool"]
    assert parts_of(found, "left") == ["batch_norm", "activation", "linear"]
    assert parts_of(found, "pool") == ["batch_norm", "activation", "global_avg_pool"]


def test_stored_by_the_first_product() -> None:
    """Two images make the value: its first reader stores it, the second one loads one image and not two."""
    net, stem = started()
    net.last = Value("input")
    other = net.conv("other", 9, 3, 1, 1)
    value = applied(net, "act", skip=stem)
    left = net.conv("left", 4, 1)
    net.last = value
    right = net.conv("right", WIDE, 3, 1, 1)
    before, found = checked(net, stem=stem, other=other, left=left, right=right)
    assert "act" in computed(before)
    assert "act" not in computed(found)
    assert parts_of(found, "left") == ["batch_norm", "add", "activation", "linear"]
    assert found["right"].operands[0].node == "left"
    assert parts_of(found, "right") == ["conv"]


def test_an_output_is_stored_on_the_way() -> None:
    net, stem = started()
    value = applied(net, "act")
    end = net.conv("end", 4, 1)
    _, found = checked(net, stem=stem, act=value, end=end)
    assert "act" not in computed(found)
    assert found.outputs["act"].node == "end"


def test_an_output_that_nobody_reads_keeps_its_kernel() -> None:
    net, stem = started()
    value = applied(net, "act")
    _, found = checked(net, stem=stem, act=value)
    assert "act" in computed(found)


def test_several_taps() -> None:
    """A wide 3x3 would compute the value nine times."""
    net, stem = started()
    applied(net, "act")
    end = net.conv("end", WIDE, 3, 1, 1)
    before, found = checked(net, stem=stem, end=end)
    assert computed(found) == computed(before)
    drafts = Drafts(before)
    assert refusal(drafts, before["act"], "end") == "conv would compute it for each of 9 taps"
    assert storing_refusal(drafts, before["act"], "end") == "conv does not come by each element once"


def test_several_taps_of_a_narrow_convolution() -> None:
    """As little matrix work as what it computes: it does so for each tap, by default."""
    net, stem = started()
    applied(net, "act")
    end = net.conv("end", NARROW, 3, 1, 1)
    _, found = checked(net, stem=stem, end=end)
    assert computed(found) == ["stem", "end"]


def test_a_value_that_must_be_stored_anyway_is_loaded() -> None:
    """One tap and nine: the 3x3 needs it stored, the product stores it for both."""
    net, stem = started()
    value = applied(net, "act")
    left = net.conv("left", 4, 1)
    net.last = value
    right = net.conv("right", WIDE, 3, 1, 1)
    _, found = checked(net, stem=stem, left=left, right=right)
    assert parts_of(found, "left") == ["batch_norm", "activation", "linear"]
    assert found["right"].operands[0].node == "left"


def test_who_reads_before_can_not_wait() -> None:
    """The product that could store the value also reads what the 3x3 makes of it."""
    net, stem = started()
    net.last = Value("input")
    other = net.conv("other", 9, 3, 1, 1)
    value = applied(net, "act", skip=stem)
    first = net.conv("first", WIDE, 3, 1, 1)
    net.last = value
    net.conv("second", WIDE, 1)
    end = net.op("end", ops.Add(), first)
    before, found = checked(net, stem=stem, other=other, first=first, end=end)
    node = before["act"]
    assert too_early(Drafts(before), node, "end", frozenset({"first"})) == "first reads %act before end runs"
    assert too_early(Drafts(before), node, "first", frozenset({"end"})) is None
    assert "act" in computed(found)


def test_readers_that_load() -> None:
    net, stem = started()
    net.op("pool", ops.GlobalAvgPool())
    value = net.op("act", ops.Activation("relu"))
    graph = net.graph
    weight = graph.add("w", ops.Parameter(linear_spec("w", 5, 9), Element.REAL)).value()
    graph.add("fc", ops.Linear(), [value, weight], layer="fc")
    graph.add("softmax", ops.Softmax(), [value], layer="softmax")
    net.done(stem=stem, fc=Value("fc"), softmax=Value("softmax"))
    drafts = Drafts(graph)
    assert refusal(drafts, graph["act"], "fc") is None
    assert refusal(drafts, graph["act"], "softmax") == "softmax reads it from memory"
    assert storing_refusal(drafts, graph["act"], "fc") is None


@pytest.mark.parametrize("variant", ["loss", "vjp", "forward"])
def test_training(variant: str) -> None:
    """Batch norms in training: what they give is never stored, but for the 3x3; gradients are stored by one reader."""
    net = Builder(7, 6, 5)
    net.conv("reduce", WIDE, 1)
    net.norm("reduce.bn")
    net.op("reduce.relu", ops.Activation("relu"))
    net.conv("middle", WIDE, 3, 1, 1)
    net.norm("middle.bn")
    net.op("middle.relu", ops.Activation("relu"))
    net.conv("expand", 8, 1)
    net.norm("expand.bn")
    net.op("pool", ops.GlobalAvgPool())
    model = as_model(net.done())
    before, found = optimise(model, variant, frozenset({"fuse_prologues"})), optimise(model, variant)
    assert len(computed(found)) < len(computed(before))
    assert roofline_us(found) < roofline_us(before)
    check_outputs(meaning(model, variant), found, model)
    applies = [name for name in computed(found) if set(parts_of(found, name)) == {"batch_norm", "activation"}]
    assert applies == ["reduce.relu"]
    assert not [name for name in computed(found) if parts_of(found, name) == ["batch_norm_input_grad"]]
