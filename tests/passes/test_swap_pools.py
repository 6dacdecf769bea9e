"""Pools that change places with a product before them, or with a derivative behind their gradient."""

from __future__ import annotations

import numpy as np
import pytest

from cnnc.ir import ops
from cnnc.ir.graph import Graph
from cnnc.ir.model import Model
from cnnc.ir.training import TrainConfig
from cnnc.ir.verify import verify
from cnnc.ir.window import Window
from cnnc.passes.attach_loss import attach_output_gradient
from cnnc.passes.dead_code import dead_code
from cnnc.passes.pipelines import meaning, optimise
from cnnc.passes.pointwise_conv import pointwise_conv
from cnnc.passes.pool_gradients import pool_gradients
from cnnc.passes.pool_gradients import refusal as gradient_refusal
from cnnc.passes.rewrite import Rewriter
from cnnc.passes.roofline import roofline_us
from cnnc.passes.swap_pools import refusal, swap_pools, swap_trained_pools
from cnnc.runtime.compare import canonical_output
from cnnc.runtime.device import open_device
from cnnc.runtime.oracle import evaluate
from cnnc.runtime.scalars import Scalars
from cnnc.runtime.verify import random_inputs, random_params, verify_model
from cnnc.source import Source
from tests.passes.networks import Builder

SCALARS = Scalars(3, seed=4, step=1)
HALVES = Window((2, 2), (2, 2))
OVERLAPPING = Window((3, 3), (2, 2), (1, 0, 1, 1))
CEILED = Window((3, 3), (2, 2), (1, 1, 0, 0), ceil=True)


def as_model(graph: Graph) -> Model:
    return Model("hand", graph, graph["input"].types[0].shape, TrainConfig(), Source("<test>", ""))


def computed(graph: Graph) -> list[str]:
    return [node.name for node in graph.walk() if not isinstance(node.op, ops.LEAVES)]


def transition(pool: ops.Op, *, bias: bool = False, channels: int = 11, filters: int = 5) -> Builder:
    """A product of single pixels, then a pool."""
    net = Builder(9, 8, channels)
    net.conv("conv", filters, 1)
    if bias:
        net.bias("bias")
    net.op("pool", pool)
    return net


def check_outputs(graph: Graph, other: Graph, model: Model) -> None:
    """Every output of both graphs, in float64."""
    inputs, params = random_inputs(graph, SCALARS.n, 7), random_params(model, 7)
    want = evaluate(graph, inputs, params, scalars=SCALARS)
    got = evaluate(other, inputs, params, scalars=SCALARS)
    assert list(graph.outputs) == list(other.outputs)
    for name, value in graph.outputs.items():
        place = other.outputs[name]
        expected = canonical_output(graph, name, value, want[value])
        error = np.linalg.norm(canonical_output(other, name, place, got[place]) - expected)
        assert error <= 1e-12 * np.linalg.norm(expected), name


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    "pool",
    [
        ops.AvgPool(HALVES),
        ops.AvgPool(OVERLAPPING),
        ops.AvgPool(CEILED),
        ops.AvgPool(Window((3, 3), (2, 2), ceil=True), count_pad=True),
        ops.GlobalAvgPool(),
    ],
    ids=["halves", "overlapping", "ceiled", "counted", "global"],
)
def test_an_average_goes_before_its_product(pool: ops.Op, bias: bool) -> None:
    net = transition(pool, bias=bias)
    model = as_model(net.done())
    swapped = swap_trained_pools(pointwise_conv(model.graph))
    assert computed(swapped) == ["pool", "conv", *(["bias"] if bias else [])]
    assert roofline_us(swapped) < roofline_us(pointwise_conv(model.graph))
    check_outputs(model.graph, swapped, model)
    check_outputs(meaning(model, "vjp"), optimise(model, "vjp"), model)


def reason(net: Builder, name: str = "pool") -> str | None:
    graph = pointwise_conv(net.done())
    return refusal(Rewriter(graph), graph[name], trained=True)


def test_padding_that_counts_does_not_commute_with_a_bias() -> None:
    counted = ops.AvgPool(OVERLAPPING, count_pad=True)
    assert reason(transition(counted)) is None
    assert reason(transition(counted, bias=True)) == "pool counts padding, which bias does not reach"


def test_a_pool_that_makes_more_work_stays() -> None:
    """Of many channels made few, or with a stride of 1."""
    wide = transition(ops.AvgPool(HALVES), channels=64, filters=3)
    assert "pool" in computed(swap_pools(pointwise_conv(wide.graph)))[1:]
    same = Window((3, 3), pad=(1, 1, 1, 1))
    assert reason(transition(ops.AvgPool(same))) == "pooling the product's input takes no less time"


@pytest.mark.parametrize(("size", "channels", "swapped"), [(56, 256, False), (14, 1024, True)])
def test_inference_swaps_where_the_product_takes_the_time(size: int, channels: int, swapped: bool) -> None:
    """The first and the last transition of DenseNet-121: bytes bound the one, multiplications the other."""
    net = Builder(size, size, channels)
    net.conv("conv", channels // 2, 1)
    net.op("pool", ops.AvgPool(HALVES))
    graph = pointwise_conv(net.done())
    assert (computed(swap_pools(graph)) == ["pool", "conv"]) == swapped
    assert computed(swap_trained_pools(graph)) == ["pool", "conv"]


def test_other_readers_of_the_product_keep_it() -> None:
    net = transition(ops.AvgPool(HALVES))
    net.graph.add("other", ops.Activation("relu"), [net.graph["conv"].value()])
    assert reason(net) == "conv has other users or is an output"
    net = transition(ops.AvgPool(HALVES), bias=True)
    graph = pointwise_conv(net.done(output=net.last, bias=net.graph["bias"].value()))
    assert refusal(Rewriter(graph), graph["pool"], trained=True) == "bias has other users or is an output"


def test_what_is_no_product_or_no_average_stays() -> None:
    assert reason(transition(ops.MaxPool(HALVES))) == "not an average pool"
    net = Builder(9, 8, 11)
    net.conv("conv", 5, 3)
    net.op("pool", ops.AvgPool(HALVES))
    assert reason(net) == "conv is no product of single pixels"
    net = Builder(9, 8, 11)
    net.conv("conv", 5, 1)
    net.op("relu", ops.Activation("relu"))
    net.op("pool", ops.AvgPool(HALVES))
    assert reason(net) == "relu is no product of single pixels"


# -- behind the gradient of a maximum ---------------------------------------------------------------


def pooled(kind: str, window: Window = HALVES) -> Builder:
    net = Builder(9, 8, 3)
    net.conv("conv", 5, 3, pad=1)
    net.bias("bias")
    net.op("act", ops.Activation(kind))
    net.op("pool", ops.MaxPool(window))
    return net


@pytest.mark.parametrize("kind", ["relu", "tanh", "sigmoid"])
@pytest.mark.parametrize("window", [HALVES, OVERLAPPING, CEILED], ids=["halves", "overlapping", "ceiled"])
def test_a_derivative_goes_before_the_unpooling(kind: str, window: Window) -> None:
    net = pooled(kind, window)
    model = as_model(net.done())
    graph = meaning(model, "vjp")
    swapped = dead_code(verify(pool_gradients(graph)))
    assert swapped["act.grad"].operands[1] == model.graph["pool"].value()
    assert [value.node for value in swapped["pool.grad"].operands] == ["act.grad", "pool"]
    assert [value.node for value in swapped["bias.sum"].operands] == ["act.grad"], "sums need no whole image"
    assert [value.node for value in swapped["conv.wgrad"].operands] == ["pool.grad", "input"]
    assert roofline_us(swapped) < roofline_us(graph)
    check_outputs(graph, swapped, model)
    check_outputs(graph, optimise(model, "vjp"), model)


def gradient_reason(net: Builder) -> str | None:
    graph = attach_output_gradient(net.done())
    return gradient_refusal(Rewriter(graph), graph["act.grad"])


def test_reasons_to_stay_behind_the_unpooling() -> None:
    assert gradient_reason(pooled("relu")) is None
    assert gradient_reason(pooled("sign")) == (
        "the derivative of sign is computed from its input, which the pool has not seen"
    )
    net = pooled("relu")
    net.op("sum", ops.GlobalAvgPool())
    rest = net.last
    net.last = net.graph["act"].value()
    net.op("twice", ops.GlobalAvgPool())
    net.op("add", ops.Add(), rest)
    assert gradient_reason(net) == "act.accumulate is no gradient of a max pool"
    graph = attach_output_gradient(pooled("relu").done())
    graph.outputs["more"] = graph["pool.grad"].value()
    assert gradient_refusal(Rewriter(graph), graph["act.grad"]) == "pool.grad has other users or is an output"
    assert gradient_refusal(Rewriter(graph), graph["pool.grad"]) == "not the gradient of an activation"


def test_another_value_than_the_pooled_one_stays() -> None:
    net = pooled("relu")
    graph = attach_output_gradient(net.done())
    unpooled, other = graph["pool.grad"].value(), graph["bias"].value()
    graph.add("foreign", ops.ActivationGrad("relu"), [unpooled, other])
    new = Rewriter(graph)
    new.users[unpooled] = [(graph["foreign"], 0)]
    assert gradient_refusal(new, graph["foreign"]) == "pool.grad is not of a pool of %bias"


@pytest.mark.parametrize(("device", "dtype"), [("cpu", "float64"), ("cpu", "float32"), ("interpret", "float32")])
def test_every_step(device: str, dtype: str) -> None:
    net = pooled("relu", OVERLAPPING)
    net.conv("narrow", 7, 1)
    net.op("average", ops.AvgPool(HALVES))
    net.op("global", ops.GlobalAvgPool())
    model = as_model(net.done())
    groups = list(verify_model(model, open_device(device, dtype), dtype, train=True))
    assert [group.name for group in groups if not group.passed] == []
