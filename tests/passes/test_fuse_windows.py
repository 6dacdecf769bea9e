"""Pools and depthwise convolutions that become prologues of pointwise products, and those that do not."""

from __future__ import annotations

import pytest

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Value
from cnnc.ir.verify import verify
from cnnc.ir.window import Window
from cnnc.passes.dead_code import dead_code
from cnnc.passes.fuse import fuse_epilogues
from cnnc.passes.fuse_pools import fuse_pools
from cnnc.passes.fuse_windows import fuse_windows, refusal
from cnnc.passes.pipelines import meaning, optimise
from cnnc.passes.pointwise_conv import pointwise_conv
from cnnc.passes.rewrite import Rewriter
from cnnc.passes.roofline import Roofline, roofline_us
from tests.passes.networks import Builder
from tests.passes.test_swap_pools import as_model, check_outputs, computed

SAME = Window((3, 3), pad=(1, 1, 1, 1))
POOLS = [ops.MaxPool(SAME), ops.AvgPool(Window((2, 2), (2, 2))), ops.SumPool(Window((3, 2), (2, 2), (1, 0, 1, 1)))]


def pooled(pool: ops.Op, *, filters: int = 5, stride: int = 1) -> Builder:
    net = Builder(9, 8, 4)
    net.op("pool", pool)
    net.conv("conv", filters, 1, stride)
    net.bias("bias")
    return net


def separable() -> Builder:
    """A depthwise convolution with bias and activation of its own, then a pointwise one."""
    net = Builder(9, 8, 4)
    net.conv("depthwise", 4, 3, 1, 1, groups=4)
    net.bias("depthwise.bias")
    net.op("relu", ops.Activation("relu"))
    net.conv("pointwise", 7, 1)
    net.bias("bias")
    return net


def fused(graph: Graph) -> Graph:
    return verify(dead_code(fuse_epilogues(pointwise_conv(graph))))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: pool.name)
def test_a_pool_before_a_pointwise_product(pool: ops.Op, stride: int) -> None:
    model = as_model(pooled(pool, stride=stride).done())
    before = fused(model.graph)
    after = verify(fuse_windows(before))
    assert computed(before) == ["pool", "bias"]
    assert computed(after) == ["bias"]
    op = after["bias"].op
    assert isinstance(op, ops.Fused)
    assert op.parts[op.main].name == "conv"
    assert roofline_us(after) < roofline_us(before)
    for variant in ("infer", "vjp"):
        check_outputs(meaning(model, variant), optimise(model, variant), model)


def test_a_separable_convolution() -> None:
    model = as_model(separable().done())
    after = verify(fuse_windows(fused(model.graph)))
    assert computed(after) == ["bias"]
    check_outputs(model.graph, after, model)
    graph = optimise(model, "vjp")
    assert "relu" in graph, "its values are needed for the gradients"
    check_outputs(meaning(model, "vjp"), graph, model)


def test_two_products_where_both_compute_it() -> None:
    """Four loads twice cost less than a kernel that writes what they make; nine would not."""
    net = pooled(ops.MaxPool(Window((2, 2))))
    net.last = Value("pool")
    net.conv("second", 3, 1)
    net.op("concat", ops.Concat(), Value("bias"))
    model = as_model(net.done())
    after = verify(fuse_windows(fused(model.graph)))
    assert computed(after) == ["bias", "second", "concat"]
    check_outputs(model.graph, after, model)
    net = pooled(POOLS[0])
    net.last = Value("pool")
    net.conv("second", 3, 1)
    net.op("concat", ops.Concat(), Value("bias"))
    found = reason(net.done())
    assert found is not None
    assert found.startswith("computing it for each block of filters of bias and second takes ")


def reason(graph: Graph, name: str = "pool") -> str | None:
    graph = fused(graph)
    return refusal(Rewriter(graph), Roofline(graph), graph[name])


def test_readers_that_are_no_pointwise_products() -> None:
    net = pooled(POOLS[0])
    net.last = Value("pool")
    net.conv("second", 3, 3, 1, 1)
    net.op("concat", ops.Concat(), Value("bias"))
    assert reason(net.done()) == "second would compute it for each of its 9 taps"
    net = Builder(9, 8, 4)
    net.op("pool", POOLS[0])
    net.conv("conv", 4, 1)
    net.op("add", ops.Add(), Value("pool"))
    assert reason(net.done()) == "add reads it beside its factor"
    net = Builder(9, 8, 4)
    net.op("pool", POOLS[0])
    net.conv("conv", 6, 1, groups=2)
    assert reason(net.done()) == "conv has 2 groups"
    net = Builder(9, 8, 4)
    net.op("pool", POOLS[0])
    net.op("again", POOLS[0])
    assert reason(net.done()) == "again is no product"


def test_a_product_that_is_pooled_itself() -> None:
    net = pooled(POOLS[0])
    net.op("behind", ops.MaxPool(Window((2, 2), (2, 2))))
    graph = fuse_pools(fused(net.done()))
    found = refusal(Rewriter(graph), Roofline(graph), graph["pool"])
    assert found == "behind makes its product again for each window of a pool"


def test_who_else_reads_it_keeps_it() -> None:
    net = pooled(POOLS[0])
    assert reason(net.done(output=net.last, pool=Value("pool"))) == "pool is an output"
    assert reason(pooled(POOLS[0]).done(), "bias") == "neither a pool nor a depthwise convolution"
    net = pooled(POOLS[0])
    graph = net.done(output=net.last, index=Value("pool", 1))
    assert reason(graph) == "pool gives more than an image"


def test_wide_products_would_compute_it_too_often() -> None:
    """Xception's middle flow: nine loads of each element in every one of six blocks of filters."""
    net = Builder(19, 19, 728)
    net.conv("depthwise", 728, 3, 1, 1, groups=728)
    net.conv("pointwise", 728, 1)
    found = reason(net.done(), "depthwise")
    assert found is not None
    assert found.startswith("computing it for each block of filters of pointwise takes ")
    net = Builder(74, 74, 128)
    net.conv("depthwise", 128, 3, 1, 1, groups=128)
    net.conv("pointwise", 128, 1)
    assert reason(net.done(), "depthwise") is None
