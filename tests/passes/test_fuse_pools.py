"""Pools that run in the kernels of the products before them, and those that do not."""

from __future__ import annotations

import pytest

from cnnc.ir import ops
from cnnc.ir.graph import Graph
from cnnc.ir.verify import verify
from cnnc.ir.window import Window
from cnnc.passes.dead_code import dead_code
from cnnc.passes.fuse import fuse_epilogues
from cnnc.passes.fuse_pools import fuse_pools, refusal
from cnnc.passes.pipelines import meaning, optimise
from cnnc.passes.pointwise_conv import pointwise_conv
from cnnc.passes.rewrite import Rewriter
from cnnc.passes.roofline import Roofline, roofline_us
from tests.passes.networks import Builder
from tests.passes.test_swap_pools import as_model, check_outputs, computed

HALVES = Window((2, 2), (2, 2))
OVERLAPPING = Window((3, 3), (2, 2), (1, 0, 1, 1))
POOLS = [
    ops.MaxPool(HALVES),
    ops.MaxPool(OVERLAPPING),
    ops.AvgPool(OVERLAPPING, count_pad=True),
    ops.AvgPool(Window((3, 2), (3, 2), ceil=True)),
    ops.SumPool(HALVES),
]


def pooled(pool: ops.Op, *, groups: int = 1, filters: int = 6) -> Builder:
    net = Builder(9, 8, 4)
    net.conv("conv", filters, 3, pad=1, groups=groups)
    net.bias("bias")
    net.op("relu", ops.Activation("relu"))
    net.op("pool", pool)
    return net


def fused(graph: Graph) -> Graph:
    return verify(fuse_epilogues(pointwise_conv(graph)))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: pool.name + str(pool.window.kernel[0]))
def test_a_pool_joins_its_product(pool: ops.Op, groups: int) -> None:
    net = pooled(pool, groups=groups)
    net.op("tanh", ops.Activation("tanh"))
    model = as_model(net.done())
    before = fused(model.graph)
    after = verify(fuse_pools(before))
    assert computed(after) == ["tanh"]
    (op,) = [node.op for node in after.walk() if isinstance(node.op, ops.Fused)]
    assert [type(part.op) for part in op.parts[:4]] == [ops.Conv, ops.BiasAdd, ops.Activation, type(pool)]
    assert op.main == 0
    assert len(op.results) == 1
    assert roofline_us(after) < roofline_us(before)
    check_outputs(model.graph, after, model)
    check_outputs(meaning(model, "vjp"), optimise(model, "vjp"), model)


def test_training_keeps_the_index_and_not_the_image() -> None:
    net = pooled(ops.MaxPool(HALVES))
    model = as_model(net.done())
    graph = optimise(model, "vjp")
    kernel = graph["pool"]
    assert [kind.shape for kind in kernel.types] == [(4, 4, 6), (4, 4, 6)]
    assert "relu" not in graph
    check_outputs(meaning(model, "vjp"), graph, model)


def reason(net: Builder, name: str = "pool", **outputs: str) -> str | None:
    values = {key: net.graph[node].value() for key, node in outputs.items()}
    graph = fused(net.done(**values))
    return refusal(Rewriter(graph), Roofline(graph), graph[name])


def test_who_else_reads_the_image_keeps_it() -> None:
    net = pooled(ops.MaxPool(HALVES))
    net.graph.add("other", ops.GlobalAvgPool(), [net.graph["relu"].value()])
    assert reason(net) == "%relu has other users or is an output"
    assert reason(pooled(ops.MaxPool(HALVES)), output="pool", image="relu") == "%relu has other users or is an output"


def test_what_is_no_pool_behind_a_product() -> None:
    net = pooled(ops.GlobalAvgPool())
    assert reason(net) == "not a pool"
    net = Builder(9, 8, 4)
    net.op("pool", ops.MaxPool(HALVES))
    assert reason(net) == "%input is not made by a convolution or a product"
    net = Builder(5, 4, 4)
    net.deconv("deconv", 3, HALVES)
    net.op("pool", ops.MaxPool(HALVES))
    assert reason(net) == "%deconv is not made by a convolution or a product"


def test_what_is_computed_too_often_stays() -> None:
    """ResNet's stem pays for its overlapping windows; GoogLeNet's second convolution would not."""
    net = Builder(224, 224, 3)
    net.conv("conv", 64, 7, 2, 3)
    net.op("pool", ops.MaxPool(Window((3, 3), (2, 2), (1, 1, 1, 1))))
    assert reason(net) is None
    net = Builder(56, 56, 64)
    net.conv("conv", 192, 3, pad=1)
    net.op("pool", ops.MaxPool(Window((3, 3), (2, 2), (0, 1, 0, 1))))
    found = reason(net)
    assert found is not None
    assert found.startswith("computing conv for each window takes ")
    assert found.endswith(" us more than it saves")
    assert dead_code(fuse_pools(fused(net.done())))["conv"].op == net.graph["conv"].op
