"""Sums over rows that run where their operand is made, those that do not, and statistics shared by concatenations."""

from __future__ import annotations

import numpy as np
import pytest

from cnnc.frontend import load
from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node
from cnnc.ir.model import Model
from cnnc.ir.verify import verify
from cnnc.passes.fuse_reductions import UPDATES, fuse_late_reductions, fuse_reductions, refusal
from cnnc.passes.groups import parts_of
from cnnc.passes.pipelines import OPTIONAL, arenas_of, meaning, optimise
from cnnc.passes.places import Places
from cnnc.passes.plan import make_plan
from cnnc.passes.roofline import roofline_us
from cnnc.passes.share_statistics import share_statistics
from cnnc.runtime.compare import output_errors
from cnnc.runtime.oracle import evaluate
from cnnc.runtime.scalars import Scalars
from cnnc.runtime.verify import random_inputs, random_params
from cnnc.source import Source

SUMS = (ops.BatchNormStats, ops.BatchNormReduce, ops.ChannelSum)
LATER = frozenset({"share_statistics", "fuse_reductions", "fuse_followers", "fuse_prologues", "fuse_late_reductions"})
SCALARS = Scalars(3, seed=5, step=2)

RESIDUAL = """
input 8x6x3
CONV: same, nobias, bn, relu
conv 6 3x3
add { | conv 4 1x1; conv 4 3x3/2; conv 8 1x1 linear | conv 8 1x1/2 linear } relu
add { | conv 4 1x1; conv 8 3x3 linear | identity } relu
maxpool 2x2
globalavgpool
fc 5
softmax
"""

BIASES = """
input 9x8x3
conv 6 3x3 relu
maxpool 3x3/2
conv 7 3x3 same tanh
avgpool 2x2/1
lrn n=3
conv 5 1x1 relu
fc 6 relu
fc 4
softmax
"""

DENSE = """
input 8x8x3
CONV: same, nobias
conv 8 3x3
repeat 3 { concat { | identity | bn; relu; conv 8 1x1 bn relu; conv 4 3x3 } }
bn
relu
globalavgpool
fc 3
softmax
"""


def model_of(text: str) -> Model:
    return load(Source("<test>", f"model test{text}"))


def sums_of(graph: Graph) -> dict[str, list[str]]:
    """The kernels with sums over rows, by name, with the names of these sums."""
    found = {}
    for node in graph.walk():
        names = [part.name for part in parts_of(node)[0] if isinstance(part.op, SUMS)]
        if names:
            found[node.name] = names
    return found


def alone(graph: Graph) -> list[Node]:
    """Kernels of nothing but sums."""
    kinds = (*SUMS, ops.BatchNormUpdate)
    return [node for node in graph.walk() if all(isinstance(part.op, kinds) for part in parts_of(node)[0])]


def check_same(model: Model, before: Graph, after: Graph) -> None:
    inputs, params = random_inputs(before, SCALARS.n, 7), random_params(model, 7)
    values = evaluate(after, inputs, params, scalars=SCALARS)
    reference = evaluate(before, inputs, params, scalars=SCALARS)
    assert max(output_errors(before, reference, after, values).values()) < 1e-11


@pytest.mark.parametrize("variant", ["forward", "loss", "vjp"])
@pytest.mark.parametrize("text", [RESIDUAL, BIASES, DENSE], ids=["residual", "biases", "dense"])
def test_means_the_same(text: str, variant: str) -> None:
    model = model_of(text)
    before = optimise(model, variant, LATER)
    after = verify(fuse_reductions(before))
    check_same(model, before, after)
    shared = verify(share_statistics(before))
    check_same(model, before, shared)
    check_same(model, before, verify(fuse_reductions(shared)))
    check_same(model, meaning(model, variant), optimise(model, variant))
    assert roofline_us(after) <= roofline_us(before)
    assert roofline_us(verify(fuse_reductions(shared))) <= roofline_us(before)


def test_statistics_and_gradients_of_a_residual_network() -> None:
    """Every sum is taken where its operand is made, running statistics and block outputs included."""
    graph = fuse_reductions(optimise(model_of(RESIDUAL), "loss", LATER))
    bare = [node.op.name for node in alone(graph)]
    assert bare == ["channel_sum"]  # of the loss's gradient
    kernels = [[type(part.op) for part in parts_of(node)[0]] for node in graph.walk()]
    statistics = [kinds for kinds in kernels if ops.BatchNormStats in kinds]
    assert len(statistics) == 7
    assert all(ops.BatchNormUpdate in kinds for kinds in statistics)
    # What comes back through a sum is read by two batch norms where both of its arms end in one.
    assert max(kinds.count(ops.BatchNormReduce) for kinds in kernels) == 2
    assert any(ops.MaxPoolGrad in kinds and ops.BatchNormReduce in kinds for kinds in kernels) or any(
        ops.GlobalAvgPoolGrad in kinds and ops.BatchNormReduce in kinds for kinds in kernels
    )


def test_what_does_not_walk_stays_beside() -> None:
    graph = optimise(model_of(BIASES), "loss", LATER)
    nodes = {node.name: node for node in graph.walk() if isinstance(node.op, ops.ChannelSum)}
    reasons = {name: refusal(graph, node) for name, node in nodes.items()}
    assert reasons["fc2.add_bias.sum"] == "the programs of fc2.add_bias.flat.grad do not walk over rows"
    assert sum(reason is None for reason in reasons.values()) == len(reasons) - 1
    after = fuse_reductions(graph)
    assert [node.name for node in alone(after)] == ["fc2.add_bias.sum"]


def test_younger_operands_are_not_waited_for() -> None:
    """A sum that reads what its host does not have yet, nor could have."""
    graph = Graph("hand")
    x = graph.add("x", ops.Input((4, 4, 3))).value()
    y = graph.add("y", ops.Activation("relu"), [x]).value()
    stats = graph.add("stats", ops.BatchNormStats(), [y])
    reduce = graph.add("reduce", ops.BatchNormReduce(), [y, x, stats.value(0), stats.value(1)])
    graph.outputs = {"y": y, "dgamma": reduce.value(0), "dbeta": reduce.value(1)}
    assert refusal(graph, stats) is None
    assert refusal(graph, reduce) == "reduce reads %stats, which is younger than y"
    after = verify(fuse_reductions(graph))
    assert sums_of(after) == {"stats": ["stats"], "reduce": ["reduce"]}


def test_sums_of_one_value_that_no_kernel_takes() -> None:
    """Two sums of an image that is given are one kernel; a part of a tile is none of it."""
    graph = Graph("hand")
    x = graph.add("x", ops.Input((4, 4, 6))).value()
    split = graph.add("split", ops.Split((2, 4)), [x])
    stats = graph.add("stats", ops.BatchNormStats(), [x])
    total = graph.add("total", ops.ChannelSum(), [x])
    part = graph.add("part", ops.ChannelSum(), [split.value(1)])
    graph.outputs = {"mean": stats.value(0), "total": total.value(), "part": part.value()}
    assert refusal(graph, stats) == "the programs of x do not walk over rows"
    after = verify(fuse_late_reductions(graph))
    assert sums_of(after) == {"total": ["stats", "total"], "part": ["part"]}
    image = np.random.default_rng(1).standard_normal((3, 4, 4, 6))
    before = evaluate(graph, {"x": image}, {}, scalars=SCALARS)
    values = evaluate(after, {"x": image}, {}, scalars=SCALARS)
    for name, value in graph.outputs.items():
        np.testing.assert_allclose(values[after.outputs[name]], before[value], rtol=1e-14)


@pytest.mark.parametrize("growth", [4, 3])
def test_a_dense_block_sums_each_image_once(growth: int) -> None:
    """One pair of statistics for each convolution; those of a concatenation lie in one piece of memory if they may."""
    model = model_of(DENSE.replace("conv 4 3x3", f"conv {growth} 3x3"))
    graph = optimise(model, "loss")
    made = [part for node in graph.walk() for part in parts_of(node)[0] if isinstance(part.op, ops.BatchNormStats)]
    assert len(made) == 1 + 2 * 3
    places = Places(graph)
    rows = [node for node in graph.walk() if isinstance(node.op, ops.ConcatRows)]
    assert len(rows) == 2 * 3
    if growth == 4:
        assert all(places.is_view(node) for node in rows)
        assert len({places.of(node.value()).root for node in rows}) == 2
    (updates,) = [node for node in alone(graph) if isinstance(parts_of(node)[0][0].op, ops.BatchNormUpdate)]
    assert len(parts_of(updates)[0]) == 3 <= UPDATES
    plan = make_plan(graph, arenas_of(model), "loss", "sm_90", "bfloat16")
    names = {step.name for schedule in plan.schedules for step in schedule.steps}
    assert names.isdisjoint(node.name for node in rows if places.is_view(node))


def test_the_mean_follows_the_losses() -> None:
    """Not of several heads' losses, nor of those of an image's positions, which one program would add up too long."""
    text = RESIDUAL.replace("globalavgpool\n", "globalavgpool\nhead aux loss=0.3 { fc 5 }\n")
    for program, joined in ((RESIDUAL, True), (text, False), ("\ninput 4x4x3\nconv 5 1x1\nsoftmax\n", False)):
        model = model_of(program)
        graph = optimise(model, "loss")
        bodies = [[type(part.op) for part in parts_of(node)[0]] for node in graph.walk()]
        (loss,) = [kinds for kinds in bodies if ops.BatchMean in kinds]
        assert loss == ([ops.CrossEntropy, ops.BatchMean] if joined else [ops.BatchMean])
        check_same(model, meaning(model, "loss"), graph)


def test_both_can_be_left_out() -> None:
    assert {"share_statistics", "fuse_reductions"} <= set(OPTIONAL)
    graph = optimise(model_of(DENSE), "loss", LATER)
    assert len(alone(graph)) > 10
