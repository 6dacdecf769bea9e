"""The cost model: single kernels by hand, whole networks against published counts, and every pass against it."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnc.frontend import load, read_source
from cnnc.ir import ops
from cnnc.ir.model import Model
from cnnc.ir.ops import Part
from cnnc.ir.roofline import Cost, work_of
from cnnc.ir.types import Element, TensorType
from cnnc.ir.window import Window
from cnnc.passes.pipelines import OPTIONAL, optimise
from cnnc.passes.roofline import Roofline, roofline_us
from cnnc.report.explain import explain
from cnnc.resources import resource
from tests.facts import FACTS
from tests.passes.networks import Builder

IMAGE = TensorType((8, 8, 6))
HALVED = Window((2, 2), (2, 2))
OVERLAPPING = Window((3, 3), (2, 2))
DENSENET = """\
model small_densenet
input 16x16x3
CONV: same, nobias
conv1: conv 16 3x3 bn relu
block dense(n) { repeat n { concat { | identity | bn; relu; conv 32 1x1 bn relu; conv 8 3x3 } } }
dense(3)
bn; relu; conv 20 1x1
avgpool 2x2
dense(3)
bn; relu
globalavgpool
fc 10
softmax
train { loss cross_entropy }
"""
QUICK = ("lenet5", "resnet20_cifar", "nin_cifar10", "alexnet", "inception_reduced", "small_densenet")
VARIANTS = ("infer", "loss")
EVERY = frozenset(OPTIONAL)


@cache
def network(name: str) -> Model:
    return load(read_source(DENSENET if name == "small_densenet" else resource("models", f"{name}.cnn")))


@cache
def least_us(name: str, variant: str, without: frozenset[str]) -> float:
    return roofline_us(optimise(network(name), variant, without))


def conv(filters: int, window: Window, image: TensorType = IMAGE) -> tuple[ops.Conv, TensorType]:
    return ops.Conv(window), TensorType((filters, *window.kernel, image.shape[2]), False)


def test_the_tighter_limit_counts():
    assert Cost(4_000_000, 0).roofline_us == 1.0
    assert Cost(4_000_000, 1_400_000_000).roofline_us == 2.0


def test_a_kernel_moves_each_operand_and_each_read_result_once():
    net = Builder(8, 8, 6)
    net.conv("conv", 5, 3)
    doubled = net.op("doubled", ops.Add(), net.last)
    net.op("pool", ops.MaxPool(HALVED))
    graph = net.done()
    cost = Roofline(graph, 10, "float16").cost
    image, made = 8 * 8 * 6, 6 * 6 * 5
    assert cost(graph["conv"]) == Cost(2 * (10 * (image + made) + 5 * 9 * 6), 2 * 10 * made * 9 * 6)
    assert cost(graph[doubled.node]) == Cost(2 * 10 * 2 * made)
    assert cost(graph["pool"]) == Cost(2 * 10 * (made + made // 4))  # nobody reads where the maxima were
    assert cost(graph["input"]) == cost(graph["conv.weight"]) == Cost()


def test_dtypes_of_elements():
    net = Builder(4, 4, 6)
    pool = ops.MaxPool(HALVED)
    y = net.op("pool", pool)
    graph = net.done(output=y, index=type(y)("pool", 1))
    assert Roofline(graph, 3, "bfloat16").cost(graph["pool"]).bytes == 3 * (96 * 2 + 24 * 2 + 24 * 1)
    net = Builder(4, 4, 6)
    net.norm("bn")
    graph = net.done()
    assert Roofline(graph, 3, "bfloat16").cost(graph["bn"]).bytes == 3 * 2 * 96 * 2 + 4 * 6 * 4


def test_a_strided_1x1_reads_only_its_pixels():
    op, weight = conv(4, Window((1, 1), (2, 2)))
    work = work_of(op, (IMAGE, weight), op.infer(IMAGE, weight))
    assert [float(share) for share in work.shares] == [0.25, 1.0]
    relu = ops.Activation("relu")
    body = ops.Fused((Part("relu", relu, (0,)), Part("conv", op, (2, 1))), (3,), 1)
    assert work_of(body, (IMAGE, weight), body.infer(IMAGE, weight)).shares == work.shares
    both = ops.Fused(body.parts, (3, 2), 1)  # now the prologue's result leaves, too
    assert work_of(both, (IMAGE, weight), both.infer(IMAGE, weight)).shares == (1, 1)


@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 5), st.integers(1, 3), st.integers(0, 3))
def test_touched_rows_are_those_that_windows_read(size, kernel, stride, dilation, pad):
    window = Window((kernel, 1), (stride, 1), (pad, pad, 0, 0), (dilation, 1))
    if size + 2 * pad < window.extent[0]:
        return
    rows, columns = window.output((size, 3))
    read = {p * stride - pad + r * dilation for p in range(rows) for r in range(kernel)} & set(range(size))
    assert window.touched((size, 3)) == (len(read), columns)


@pytest.mark.parametrize(("pool", "times"), [(HALVED, 1.0), (OVERLAPPING, 9 * 9 / 64), (Window((1, 1), (2, 2)), 0.25)])
@pytest.mark.parametrize("between", [0, 2])
def test_a_product_is_computed_for_each_tap_of_a_pool_behind_it(pool, times, between):
    op, weight = conv(4, Window((3, 3), pad=(1, 1, 1, 1)))
    parts = [Part("conv", op, (0, 1))]
    parts += [Part(f"relu{i}", ops.Activation("relu"), (2 + i,)) for i in range(between)]
    parts.append(Part("pool", ops.MaxPool(pool), (2 + between,)))
    body = ops.Fused(tuple(parts), (3 + between,))
    plain = work_of(op, (IMAGE, weight), op.infer(IMAGE, weight))
    assert work_of(body, (IMAGE, weight), body.infer(IMAGE, weight)).macs == plain.macs * times


def test_products_one_after_the_other_are_computed_once():
    first, weight = conv(4, Window((3, 3), pad=(1, 1, 1, 1)))
    second = TensorType((7, 4), False)
    body = ops.Fused((Part("conv", first, (0, 1)), Part("linear", ops.Linear(), (3, 2))), (4,), 1)
    assert work_of(body, (IMAGE, weight, second), body.infer(IMAGE, weight, second)).macs == 64 * 4 * (9 * 6 + 7)


def test_prepared_weights_count_in_training_alone():
    net = Builder(4, 4, 6)
    weight = net.conv("conv", 5, 3)
    graph = net.graph
    mask = net.vector("mask", trainable=False)
    masked = graph.add("masked", ops.Scale(2.0), [mask]).value()
    graph.outputs = {"output": weight, "state:x": masked}
    assert Roofline(graph).cost(graph["masked"]) == Cost()
    graph.outputs = {"output": weight, "grad:x": masked}
    assert Roofline(graph, 2).cost(graph["masked"]).bytes == graph.type_of(mask).count * (4 + 4)


def test_elements_have_the_bytes_of_their_dtype():
    assert TensorType((3,), element=Element.LABEL).count == 3


@pytest.mark.parametrize(
    ("name", "batch", "gigabytes", "kernels"),
    [
        ("resnet50", 128, 19.4, 175),
        ("googlenet", 128, 5.84, 141),
        ("vgg_d", 64, 7.63, 37),
        ("densenet121", 128, 27.4, 427),
        ("alexnet", 128, 0.96, 21),
        ("xception", 32, 10.15, 168),
        ("inception_resnet_v2", 32, 12.4, 782),
    ],
)
def test_every_op_alone_costs_what_was_counted_by_hand(name, batch, gigabytes, kernels):
    """The ledger's figures, in the digits that it has."""
    found = explain(network(name), batch=batch, dtype="bfloat16", target="sm_90").alone
    digits = len(str(gigabytes).partition(".")[2])
    assert (round(found.bytes / 1e9, digits), found.kernels) == (gigabytes, kernels)


def test_a_training_step_with_every_op_alone():
    found = explain(network("resnet50"), batch=128, dtype="bfloat16", target="sm_90", train=True).alone
    assert round(found.bytes / 1e9, 1) == 57.9
    assert found.kernels == 512


def raised(name: str, variant: str) -> list[str]:
    """Passes that make a network slower by the model: among all others, or alone."""
    full, bare = least_us(name, variant, frozenset()), least_us(name, variant, EVERY)
    slack = 1 + 1e-9  # sums in another order
    return [
        step
        for step in OPTIONAL
        if full > least_us(name, variant, frozenset({step})) * slack
        or least_us(name, variant, EVERY - {step}) > bare * slack
    ]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", QUICK)
def test_no_pass_makes_a_network_slower(name: str, variant: str) -> None:
    assert raised(name, variant) == []


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", FACTS)
def test_no_pass_makes_any_published_network_slower(name: str, variant: str) -> None:
    try:
        assert raised(name, variant) == []
    finally:
        least_us.cache_clear()
        network.cache_clear()
