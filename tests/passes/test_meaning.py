"""Passes on random programs: alone, in every prefix, and broken on purpose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cnnc.frontend import load
from cnnc.ir import ops
from cnnc.ir.graph import Graph
from cnnc.ir.verify import InvalidGraph, verify
from cnnc.passes import pipelines
from cnnc.passes.dead_code import dead_code
from cnnc.passes.flatten_linear import flatten_linear
from cnnc.passes.fold_batchnorm import fold_batchnorm
from cnnc.passes.fuse import fuse_epilogues
from cnnc.passes.lower_batchnorm import lower_batchnorm
from cnnc.passes.merge_siblings import merge_siblings
from cnnc.passes.pipelines import MEANING, PIPELINES, VARIANTS, meaning, run_passes, start
from cnnc.passes.pointwise_conv import pointwise_conv
from cnnc.passes.pool_gradients import pool_gradients
from cnnc.passes.rewrite import Rewriter
from cnnc.passes.separate_outputs import separate_outputs
from cnnc.passes.swap_pools import swap_pools, swap_trained_pools
from cnnc.runtime.compare import canonical_output, relative_error
from cnnc.runtime.device import open_device
from cnnc.runtime.oracle import evaluate
from cnnc.runtime.scalars import Scalars
from cnnc.runtime.verify import (
    TRAINING_VARIANTS,
    random_inputs,
    random_params,
    verify_model,
)
from cnnc.source import Source
from tests.random_programs import random_model

TOLERANCE = 1e-10
SCALARS = Scalars(3, seed=5, step=2)
ALONE = (
    flatten_linear,
    pointwise_conv,
    fold_batchnorm,
    swap_pools,
    swap_trained_pools,
    merge_siblings,
    pool_gradients,
    dead_code,
    fuse_epilogues,
    lower_batchnorm,
    separate_outputs,
)
SEEDS = range(20)


class Reference:
    """The values of a graph's outputs, to compare other graphs with."""

    def __init__(self, model, graph: Graph) -> None:
        self.graph = graph
        self.inputs, self.params = random_inputs(graph, SCALARS.n, 7), random_params(model, 7)
        self.values = evaluate(graph, self.inputs, self.params, scalars=SCALARS)
        self.norm = max(float(np.linalg.norm(self.values[value])) for value in graph.outputs.values())

    def error_of(self, other: Graph) -> float:
        """The worst relative error among its outputs."""
        assert list(other.outputs) == list(self.graph.outputs)
        got = evaluate(other, self.inputs, self.params, scalars=SCALARS)
        errors = []
        for name, value in self.graph.outputs.items():
            mine = canonical_output(self.graph, name, value, self.values[value])
            place = other.outputs[name]
            errors.append(relative_error(canonical_output(other, name, place, got[place]), mine, 1e-3 * self.norm))
        return max(errors)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_pass_alone(seed):
    model = random_model(seed)
    for variant in VARIANTS:
        graph = meaning(model, variant)
        reference = Reference(model, graph)
        for one in ALONE:
            assert reference.error_of(verify(one(graph), one.__name__)) <= TOLERANCE, (variant, one.__name__)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_prefix(seed):
    model = random_model(seed)
    for variant in VARIANTS:
        reference = Reference(model, meaning(model, variant))
        for length in range(1, len(PIPELINES[variant]) + 1):
            passes = PIPELINES[variant][:length]
            if set(MEANING[variant]) <= set(passes):
                error = reference.error_of(run_passes(start(model, variant), passes))
                assert error <= TOLERANCE, (variant, passes[-1].__name__)


@pytest.mark.parametrize("seed", range(5))
def test_passes_are_idempotent_where_they_should_be(seed):
    graph = meaning(random_model(seed), "vjp")
    for one in (dead_code, pointwise_conv, swap_trained_pools, pool_gradients, lower_batchnorm, separate_outputs):
        once = one(graph)
        twice = one(once)
        assert list(twice.walk()) == list(once.walk()), one.__name__


# -- broken on purpose ------------------------------------------------------------------------------

PROGRAM = "input 6x6x3\nconv 4 3x3 bn relu\nmaxpool 2x2\nfc 5 softmax"


def without_bias(graph: Graph) -> Graph:
    """Forgets every bias: types agree, numbers do not."""
    rewriter = Rewriter(graph)
    for node in graph.walk():
        if isinstance(node.op, ops.BiasAdd):
            rewriter.replace(node.value(), rewriter.get(node.operands[0]))
        else:
            rewriter.copy(node)
    return rewriter.done()


def with_wrong_eps(graph: Graph) -> Graph:
    """A batch norm folded with another epsilon than it has."""
    rewriter = Rewriter(graph)
    for node in fold_batchnorm(graph).walk():
        op = replace(node.op, eps=0.01) if isinstance(node.op, ops.FoldScale) else node.op
        rewriter.add(node.name, op, list(node.operands), node)
    return rewriter.done()


def broken(old, new):
    """All pipelines with one pass replaced."""
    return {name: tuple(new if one is old else one for one in passes) for name, passes in pipelines.PIPELINES.items()}


@pytest.mark.parametrize(("old", "new"), [(pointwise_conv, without_bias), (fold_batchnorm, with_wrong_eps)])
def test_verify_reports_a_broken_pass(monkeypatch, old, new):
    model = load(Source("<test>", PROGRAM))
    device = open_device("cpu", "float32")
    assert all(group.passed for group in verify_model(model, device, "float32", train=True))
    monkeypatch.setattr(pipelines, "PIPELINES", broken(old, new))
    groups = list(verify_model(model, device, "float32", train=False))
    # What each group computes is still what the (wrong) graph says.
    assert [(group.name, group.kernel) for group in groups if not group.passed] == [("output", new.__name__)]


def pools(step):
    parts = [part.op for part in step.op.parts] if isinstance(step.op, ops.Fused) else [step.op]
    return any(isinstance(part, ops.MaxPool) for part in parts)


def test_verify_reports_a_broken_kernel(monkeypatch):
    """The other half: the graph is right, and one step's numbers are not."""
    model = load(Source("<test>", PROGRAM))
    device = open_device("cpu", "float32")
    executor = device.executor

    class Broken:
        def __init__(self, plan):
            self.inner = executor(plan)

        def run(self, schedule, steps, blocks, scalars):
            self.inner.run(schedule, steps, blocks, scalars)
            for step in steps:
                if pools(step) and step.outputs[0] is not None:
                    buffer = schedule.buffers[step.outputs[0]]
                    device.write(buffer, blocks, scalars.n, 1.001 * device.read(buffer, blocks, scalars.n))

        def forget(self):
            self.inner.forget()

    monkeypatch.setattr(device, "executor", Broken)
    groups = verify_model(model, device, "float32", train=True)
    failed = [group.variant for group in groups if not group.passed]
    assert failed == list(TRAINING_VARIANTS)


def test_the_verifier_of_graphs_reports_a_wrong_type():
    model = load(Source("<test>", PROGRAM))
    graph = meaning(model, "infer")
    name = next(node.name for node in graph.walk() if isinstance(node.op, ops.MaxPool))
    node = graph[name]
    graph._nodes[name] = replace(node, types=(node.types[0].with_shape(9, 9, 4), node.types[1]))
    with pytest.raises(InvalidGraph, match="infers"):
        verify(graph, "a pass")
