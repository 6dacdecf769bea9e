"""Splits of merged siblings, stored slice by slice by the product's kernel where that saves copies."""

from __future__ import annotations

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Value
from cnnc.ir.verify import verify
from cnnc.ir.window import Window
from cnnc.passes.dead_code import dead_code
from cnnc.passes.fuse import fuse_epilogues
from cnnc.passes.fuse_splits import fuse_splits, refusal
from cnnc.passes.pipelines import meaning, optimise
from cnnc.passes.place_concats import place_concats
from cnnc.passes.places import Places
from cnnc.passes.rewrite import Rewriter
from cnnc.passes.roofline import Roofline, roofline_us
from tests.passes.networks import Builder
from tests.passes.test_swap_pools import as_model, check_outputs, computed

SAME = Window((3, 3), pad=(1, 1, 1, 1))


def siblings(*, joined: bool = True) -> Builder:
    """Two slices of one convolution: one goes on, the other is concatenated with what comes of it, or also goes on."""
    net = Builder(6, 5, 3)
    net.conv("conv", 12, 3, 1, 1)
    net.op("relu", ops.Activation("relu"))
    net.graph.add("split", ops.Split((5, 7)), [net.last])
    net.last = Value("split", 1)
    net.conv("next", 4, 3, 1, 1)
    if joined:
        net.op("concat", ops.Concat(), Value("split", 0))
    else:
        after = net.last
        net.last = Value("split", 0)
        net.conv("other", 4, 3, 1, 1)
        net.op("concat", ops.Concat(), after)
    return net


def fused(graph: Graph) -> Graph:
    return verify(dead_code(fuse_epilogues(graph)))


def test_a_slice_is_written_where_it_belongs() -> None:
    model = as_model(siblings().done())
    before = fused(model.graph)
    after = verify(fuse_splits(before))
    assert computed(after) == ["split", "next", "concat"]
    assert [kind.shape[-1] for kind in after["split"].types] == [5, 7]
    assert roofline_us(after) < roofline_us(before)
    placed = place_concats(after)
    assert Places(placed).is_view(placed["concat"])
    check_outputs(model.graph, placed, model)
    for variant in ("infer", "vjp"):
        check_outputs(meaning(model, variant), optimise(model, variant), model)


def reason(graph: Graph, name: str = "split") -> str | None:
    graph = fused(graph)
    return refusal(Rewriter(graph), Roofline(graph), graph[name])


def test_slices_that_are_read_where_they_lie_stay() -> None:
    assert reason(siblings().done()) is None
    assert reason(siblings(joined=False).done()) == "the slices of %relu are read where they lie"
    net = siblings()
    assert reason(net.done(), "next") == "not a split"


def test_who_else_reads_all_channels_keeps_them() -> None:
    net = siblings()
    graph = net.done(output=net.last, whole=Value("relu"))
    assert reason(graph) == "%relu has other users or is an output"
    net = Builder(6, 5, 12)
    net.op("pool", ops.MaxPool(SAME))
    net.graph.add("split", ops.Split((5, 7)), [net.last])
    net.op("again", ops.Activation("tanh"))
    net.last = Value("split", 1)
    net.op("concat", ops.Concat(), Value("split", 0))
    assert reason(net.done()) == "%pool is not made by a product"
