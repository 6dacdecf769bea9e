"""Sibling products as one: which are merged, how far, and that nothing changes but the number of kernels."""

from __future__ import annotations

import numpy as np
import pytest

from cnnc.frontend import load, read_source
from cnnc.ir import ops
from cnnc.ir.graph import Graph, Value
from cnnc.ir.verify import verify
from cnnc.passes.attach_loss import attach_output_gradient
from cnnc.passes.dead_code import dead_code
from cnnc.passes.merge_siblings import merge_siblings, refusal
from cnnc.passes.pipelines import PIPELINES, VARIANTS, meaning, optimise, run_passes, start
from cnnc.passes.rewrite import Rewriter
from cnnc.passes.training_mode import training_mode
from cnnc.runtime.device import open_device
from cnnc.runtime.oracle import evaluate
from cnnc.runtime.scalars import Scalars
from cnnc.runtime.verify import random_inputs, random_params, verify_model
from tests.passes.arms import Arms, as_model, with_scores
from tests.passes.networks import Builder
from tests.reductions import MODELS

SCALARS = Scalars(3, seed=4, step=1)
DEVICES = (("cpu", "float64"), ("cpu", "float32"), ("interpret", "float32"))


def kinds(graph: Graph) -> list[str]:
    return [node.op.name for node in graph.walk() if not isinstance(node.op, (*ops.LEAVES, ops.ConcatRows))]


def merged(graph: Graph) -> Graph:
    return dead_code(verify(merge_siblings(graph)))


def inception() -> Graph:
    net = Arms(7, 6, 11)
    net.arm("a", 5, 1e-3, "relu")
    net.arm("b", 3, 1e-3, "relu")
    net.conv("b2", 4, 3, pad=1)
    net.ends[-1] = net.last
    net.arm("c", 1, 1e-3, "relu")
    return net.joined()


def test_whole_chains_are_merged() -> None:
    graph = merged(inception())
    assert kinds(graph) == ["conv", "batch_norm", "activation", "split", "conv", "concat", "conv"]
    assert graph["a.relu.split"].op == ops.Split((5, 3, 1))
    assert [value for node in graph.walk() for value in node.operands if value.node == "a.relu.split"] == [
        Value("a.relu.split", 1),
        Value("a.relu.split", 0),
        Value("a.relu.split", 2),
    ]
    assert graph["a.merged"].layer == "a+b+c"


def test_in_training_the_statistics_are_slices() -> None:
    graph = merged(training_mode(inception()))
    assert kinds(graph)[:3] == ["conv", "batch_norm_train", "row_slice"]
    assert graph["b.bn.update"].operands[2:] == (Value("b.bn.statistic1"), Value("b.bn.statistic2"))
    assert graph["b.bn.statistic2"].op == ops.RowSlice(5, 3)
    assert graph["b.bn.statistic2"].operands == (Value("a.bn.merged", 2),)


def test_siblings_that_differ_later_agree_as_far_as_they_do() -> None:
    """Worth it where what follows alone is narrower than the input."""
    net = Arms(7, 6, 64)
    net.arm("a", 5, "bias", "relu")
    net.arm("b", 3, "bias", "tanh")
    assert kinds(merged(net.joined())) == ["conv", "bias_add", "split", "activation", "activation", "concat", "conv"]


def test_siblings_that_agree_to_the_end_are_better_merged_alone() -> None:
    net = Arms(7, 6, 32)
    net.arm("a", 30, "bias", "relu")
    net.arm("b", 16, "bias", "relu")
    net.arm("c", 30)
    graph = merged(net.joined())
    assert graph["a.relu.split"].op == ops.Split((30, 16))
    assert graph["c"].op == net.graph["c"].op


@pytest.mark.parametrize("stride", [1, 2])
def test_strided_siblings(stride: int) -> None:
    net = Arms(7, 6, 16)
    net.arm("a", 5, "bias", stride=stride)
    net.arm("b", 3, "bias", stride=stride)
    assert kinds(merged(net.joined()))[:3] == ["conv", "bias_add", "split"]


def siblings(first: dict[str, int], second: dict[str, int]) -> Graph:
    net = Arms(8, 8, 16)
    net.arm("a", 5, **first)
    net.arm("b", 3, **second)
    net.op("b.pool", ops.GlobalAvgPool())
    net.last = net.ends[0]
    net.op("a.pool", ops.GlobalAvgPool())
    net.op("concat", ops.Concat(), Value("b.pool"))
    return net.done()


@pytest.mark.parametrize("second", [{"stride": 2}, {"kernel": 3}])
def test_other_windows_are_no_siblings(second: dict[str, int]) -> None:
    assert "split" not in kinds(merged(siblings({}, second)))
    assert "split" in kinds(merged(siblings(second, second)))


def test_products_of_different_values_are_no_siblings() -> None:
    net = Arms(7, 6, 11)
    net.arm("a", 5)
    net.start = net.op("relu", ops.Activation("relu"))
    net.arm("b", 3)
    assert "split" not in kinds(merged(net.joined()))


@pytest.mark.parametrize("second", [1e-5, 1e-3])
def test_other_epsilons_part_batch_norms(second: float) -> None:
    net = Arms(7, 6, 64)
    net.arm("a", 5, 1e-3)
    net.arm("b", 3, second)
    chain = ["conv", "split", "batch_norm"] if second != 1e-3 else ["conv", "batch_norm", "split"]
    assert kinds(merged(net.joined()))[:3] == chain


def test_a_value_with_two_users_ends_the_chain() -> None:
    net = Arms(7, 6, 64)
    net.arm("a", 5, "bias", "relu")
    net.arm("b", 3, "bias", "relu")
    net.ends.append(Value("b.add_bias"))
    assert kinds(merged(net.joined()))[:3] == ["conv", "bias_add", "split"]


def test_outputs_stay_alone() -> None:
    net = Arms(7, 6, 64)
    first, second = net.arm("a", 5), net.arm("b", 3)
    assert "split" not in kinds(merged(net.done(first=first, second=second)))


def test_wide_weights_on_few_pixels_stay_alone() -> None:
    """In training their copies would cost more than the input that is read once; those that lie together need none."""
    for filters, kept in ((501, True), (512, False)):
        net = Arms(1, 1, 65)
        net.arm("a", filters)
        net.arm("b", 300)
        assert ("split" not in kinds(merged(net.joined()))) == kept


def test_reasons() -> None:
    net = Arms(7, 6, 4)
    net.conv("grouped", 6, 1, groups=2)
    net.last = net.start
    net.masked("masked", 6, 1)
    net.last = net.start
    net.binary("binary", 6, 1)
    net.last = net.start
    net.arm("unread", 3)
    net.arm("plain", 3, "relu")
    graph = net.done()
    rewriter = Rewriter(graph)
    assert refusal(rewriter, graph["grouped"]) == "it has 2 groups"
    assert refusal(rewriter, graph["masked"]) == "its weight is no parameter but made by mask_weight"
    assert refusal(rewriter, graph["binary"]) == "its weight is no parameter but made by binarize"
    assert refusal(rewriter, graph["unread"]) == "nothing reads it"
    assert refusal(rewriter, graph["plain.relu"]) == "not a product"
    assert refusal(rewriter, graph["plain"]) is None


def differing_ends() -> Graph:
    net = Arms(7, 6, 40)
    net.arm("a", 5, "bias", "relu")
    net.arm("b", 3, "bias", "tanh")
    net.arm("c", 1, 1e-2, "relu")
    net.arm("d", 2, 1e-2, "relu")
    net.arm("e", 4, 1e-5, "relu", stride=1)
    return net.joined()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("graph", [inception(), differing_ends()], ids=["inception", "differing_ends"])
def test_values_gradients_and_statistics_stay(graph: Graph, variant: str) -> None:
    model = as_model(graph) if variant != "loss" else as_model(with_scores(graph))
    reference, optimised = meaning(model, variant), optimise(model, variant)
    assert any("split" in node.op.name for node in optimised.walk())
    inputs, params = random_inputs(reference, SCALARS.n, 7), random_params(model, 7)
    want = evaluate(reference, inputs, params, scalars=SCALARS)
    got = evaluate(optimised, inputs, params, scalars=SCALARS)
    for name, value in reference.outputs.items():
        found, expected = got[optimised.outputs[name]], want[value]
        error = np.linalg.norm(found.reshape(expected.shape) - expected)
        assert error <= 1e-12 * max(1e-2, np.linalg.norm(expected)), name


@pytest.mark.parametrize(("device", "dtype"), DEVICES)
def test_every_step(device: str, dtype: str) -> None:
    """Inference, loss and gradients, step by step on devices."""
    model = as_model(with_scores(differing_ends()))
    groups = list(verify_model(model, open_device(device, dtype), dtype, train=True))
    assert [group.name for group in groups if not group.passed] == []


@pytest.mark.parametrize("used", [(0,), (1,), (0, 2), (0, 1, 2)])
def test_the_gradient_of_a_split(used: tuple[int, ...]) -> None:
    """A part that leads nowhere has no gradient, and the others theirs; finite differences in float64."""
    net = Builder(2, 3, 6)
    split = net.graph.add("split", ops.Split((1, 2, 3)), [net.op("tanh", ops.Activation("tanh"))])
    net.last = split.value(used[0])
    for index in used[1:]:
        net.op(f"concat{index}", ops.Concat(), split.value(index))
    net.op("square", ops.Mul(), net.last)
    graph = attach_output_gradient(net.done())
    rng = np.random.default_rng(2)
    x, dy = rng.standard_normal((2, 2, 3, 6)), rng.standard_normal((2, *graph["doutput"].types[0].shape))
    values = evaluate(graph, {"input": x, "doutput": dy}, {}, scalars=Scalars(2))
    slices = np.split(np.arange(6), [1, 3])
    kept = np.concatenate([slices[index] for index in used])
    want = np.zeros_like(x)
    y = np.tanh(x)
    want[..., kept] = 2 * y[..., kept] * dy * (1 - y[..., kept] ** 2)
    np.testing.assert_allclose(values[graph.outputs["dinput"]], want, rtol=1e-12, atol=1e-14)


def test_googlenet_has_one_product_a_module() -> None:
    model = load(read_source(MODELS / "googlenet.cnn"))
    for variant in ("infer", "loss"):
        passes = PIPELINES[variant][: PIPELINES[variant].index(merge_siblings) + 1]
        graph = run_passes(start(model, variant), passes)
        splits = [node for node in graph.walk() if isinstance(node.op, ops.Split)]
        assert [len(node.op.counts) for node in splits] == [3] * 9
        assert sum(isinstance(node.op, ops.Linear) for node in graph.walk()) == 1 + 9 * 2 + 1
