"""Normalisations that run in the kernel before them, and those that do not."""

from __future__ import annotations

import pytest

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Value
from cnnc.ir.verify import verify
from cnnc.ir.window import Window
from cnnc.passes.dead_code import dead_code
from cnnc.passes.fuse import fuse_epilogues
from cnnc.passes.fuse_lrn import fuse_lrn, refusal
from cnnc.passes.fuse_pools import fuse_pools
from cnnc.passes.pipelines import meaning, optimise
from cnnc.passes.rewrite import Rewriter
from cnnc.passes.roofline import roofline_us
from tests.passes.networks import Builder
from tests.passes.test_swap_pools import as_model, check_outputs, computed

HALVES = Window((2, 2), (2, 2))


def normalised(*, filters: int = 6, groups: int = 1, pool: bool = True) -> Builder:
    net = Builder(9, 8, 2 * groups)
    net.conv("conv", filters, 3, 1, 1, groups)
    net.op("relu", ops.Activation("relu"))
    if pool:
        net.op("pool", ops.MaxPool(HALVES))
    net.op("lrn", ops.Lrn())
    net.op("tanh", ops.Activation("tanh"))
    return net


def fused(graph: Graph, *, pools: bool = True) -> Graph:
    graph = verify(dead_code(fuse_epilogues(graph)))
    return fuse_pools(graph) if pools else graph


@pytest.mark.parametrize("pools", [False, True])
@pytest.mark.parametrize("pool", [False, True])
def test_behind_a_pool_or_a_product(pool: bool, pools: bool) -> None:
    model = as_model(normalised(pool=pool).done())
    before = fused(model.graph, pools=pools)
    after = verify(fuse_lrn(before))
    assert computed(after) == (["relu", "tanh"] if pool and not pools else ["tanh"])
    assert roofline_us(after) < roofline_us(before)
    check_outputs(model.graph, after, model)
    for variant in ("infer", "vjp"):
        check_outputs(meaning(model, variant), optimise(model, variant), model)


def reason(graph: Graph, name: str = "tanh") -> str | None:
    graph = fused(graph)
    return refusal(Rewriter(graph), graph[name])


def test_what_is_not_made_by_such_a_kernel() -> None:
    net = Builder(9, 8, 4)
    net.op("lrn", ops.Lrn())
    assert reason(net.done(), "lrn") == "%input is made neither by a pool nor by a product"
    net.op("again", ops.Lrn())
    assert reason(net.done(), "again") == "%lrn is made neither by a pool nor by a product"
    assert reason(normalised(groups=3, pool=False).done()) == "relu has 3 groups"
    net = normalised()
    assert reason(net.done(output=net.last, pooled=Value("pool"))) == "%pool has other users or is an output"
    net = normalised()
    assert reason(net.done(output=net.last, index=Value("pool", 1))) == "pool gives more than an image"
    net = Builder(9, 8, 4)
    net.conv("conv", 3, 3)
    assert reason(net.done(), "conv") == "not a local response normalisation"


def test_more_channels_than_a_tile_holds() -> None:
    assert reason(normalised(filters=128, pool=False).done()) is None
    found = reason(normalised(filters=129, pool=False).done())
    assert found == "no tile of relu holds all of its 129 channels"
    net = Builder(9, 8, 513)
    net.op("pool", ops.MaxPool(HALVES))
    net.op("lrn", ops.Lrn())
    assert reason(net.done(), "lrn") == "no tile of pool holds all of its 513 channels"
    net = Builder(9, 8, 3)
    net.conv("conv", 4, 3)
    net.op("lrn", ops.Lrn())
    net.op("again", ops.Lrn())
    once = verify(fuse_lrn(fused(net.done())))
    assert refusal(Rewriter(once), once["again"]) == "lrn looks across channels already"
