"""Checks a compilation against the oracle: each fused group alone, and every output of the passes.

The oracle evaluates the unfused graph in float64. Each step then runs by itself, on the oracle's own
values (rounded as the step's buffers store them), into poisoned buffers, and is compared with the
oracle on the same operands, so that an error stays in the group that made it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnc.ir import ops
from cnnc.ir.graph import Graph
from cnnc.ir.model import Model
from cnnc.ir.plan import Buffer, Plan, Schedule, Space, Step
from cnnc.ir.types import Element
from cnnc.passes.pipelines import NOTHING, Without, arenas_of, meaning, optimise, pipeline, start
from cnnc.passes.plan import make_plan
from cnnc.runtime.arrays import Array
from cnnc.runtime.compare import output_errors, relative_error
from cnnc.runtime.device import Device, Executor
from cnnc.runtime.init import initial_values
from cnnc.runtime.memory import Key, block_key
from cnnc.runtime.oracle import evaluate, evaluate_op
from cnnc.runtime.scalars import Scalars

PASS_TOLERANCE = 1e-9  # relative L2 of an output after the passes, all in float64
CANCELLATION = 0.01
SUMS = (ops.ConvDgrad, ops.ConvWgrad, ops.LinearDgrad, ops.LinearWgrad, ops.ChannelSum, ops.BatchNormReduce)
# float16 has fewer bits left below 6e-5, where gradients without loss scaling lie.
TOLERANCES = {"float64": 1e-9, "float32": 1e-5, "bfloat16": 2e-2, "float16": 1e-2}
TRAINING_VARIANTS = ("infer", "forward", "loss", "vjp")


@dataclass(frozen=True)
class Group:
    """One fused group, or one output of the whole graph: its worst relative L2 error and what is allowed."""

    variant: str
    name: str
    layers: tuple[str, ...]
    kernel: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance


def verify_model(
    model: Model,
    device: Device,
    dtype: str,
    *,
    train: bool,
    batch: int = 3,
    seed: int = 0,
    without: Without = NOTHING,
) -> Iterator[Group]:
    """Check inference and, with ``train``, the plans of training too; yields each group as it is done.

    Inputs, labels and weights are drawn from ``seed``; running variances are kept positive. ``without`` names passes
    to leave out.
    """
    for variant in TRAINING_VARIANTS if train else ("infer",):
        yield from _Check(model, device, dtype, variant, batch, seed, without).groups()


class _Check:
    """One variant: the oracle's values of both graphs, and the plan."""

    def __init__(
        self, model: Model, device: Device, dtype: str, variant: str, batch: int, seed: int, without: Without
    ) -> None:
        self.device = device
        self.variant = variant
        self.dtype = dtype
        self.model = model
        self.without = without
        self.scalars = Scalars(batch, seed=seed, step=1)
        self.params = random_params(model, seed)
        self.before = meaning(model, variant)
        self.inputs = random_inputs(self.before, batch, seed)
        self.reference = evaluate(self.before, self.inputs, self.params, scalars=self.scalars)
        self.after = optimise(model, variant, without)
        self.values = evaluate(self.after, self.inputs, self.params, scalars=self.scalars)
        self.plan = make_plan(self.after, arenas_of(model), variant, device.target, dtype)

    def groups(self) -> Iterator[Group]:
        yield from self._outputs()
        schedule = self.plan.schedule(self.scalars.n)
        executor = self.device.executor(self.plan)
        for step in (*schedule.prepare, *schedule.steps):
            error = self._step(schedule, executor, step)
            yield Group(self.variant, step.name, step.layers, step.op.name, error, TOLERANCES[self.dtype])

    def _outputs(self) -> Iterator[Group]:
        """What the passes made of each output, against the graph they started from; names the pass at fault."""
        errors = output_errors(self.before, self.reference, self.after, self.values)
        culprit = "passes"
        if max(errors.values()) > PASS_TOLERANCE:
            culprit = self._culprit() or culprit
        for name, error in errors.items():
            yield Group(self.variant, name, (), culprit, error, PASS_TOLERANCE)

    def _culprit(self) -> str | None:
        """The first pass after which an output differs from the graph that the passes started from."""
        graph = start(self.model, self.variant)
        for step in pipeline(self.variant, self.without):
            graph = step(graph)
            values = evaluate(graph, self.inputs, self.params, scalars=self.scalars)
            if max(output_errors(self.before, self.reference, graph, values).values()) > PASS_TOLERANCE:
                return step.__name__
        return None

    def _step(self, schedule: Schedule, executor: Executor, step: Step) -> float:
        """The worst error among a step's outputs, run alone on the oracle's operands."""
        node = self.after[step.name]
        blocks = _blocks(self.device, self.plan, schedule, self.scalars.n)
        for slot in [i for i in step.outputs if i is not None]:
            self._poison(schedule.buffers[slot], blocks)
        if step.workspace is not None:
            self._poison(schedule.buffers[step.workspace], blocks)
        for slot, value in zip(step.inputs, node.operands, strict=True):
            self.device.write(schedule.buffers[slot], blocks, self.scalars.n, self.values[value])
        # What the step reads is what the oracle gets: rounding an operand is not the step's error.
        operands = [_exact(self.device.read(schedule.buffers[slot], blocks, self.scalars.n)) for slot in step.inputs]
        wanted = evaluate_op(node.op, operands, self.scalars)
        floors = _cancellation_floors(node.op, operands, len(wanted), self.scalars)
        executor.run(schedule, [step], blocks, self.scalars)
        worst = 0.0
        for output, want, floor in zip(step.outputs, wanted, floors, strict=True):
            if output is not None:
                got = self.device.read(schedule.buffers[output], blocks, self.scalars.n)
                worst = max(worst, relative_error(got, want, floor))
        return worst

    def _poison(self, buffer: Buffer, blocks: Mapping[Key, Any]) -> None:
        shape = (self.scalars.n, *buffer.shape) if buffer.batched else buffer.shape
        fill = 255 if buffer.dtype == "uint8" else np.nan
        self.device.write(buffer, blocks, self.scalars.n, np.full(shape, fill))


def _exact(array: Array) -> Array:
    """Floats in float64; integers as they are."""
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _cancellation_floors(op: ops.Op, operands: list[Array], results: int, scalars: Scalars) -> list[float]:
    """For each result a floor for its norm: of a sum whose terms may cancel, as a bias's gradient does before a batch
    norm, and of that batch norm's own gradient over few values.

    Rounding errors are proportional to the terms, not to what is left of them: a hundredth of the
    same sum over absolute values.
    """
    if isinstance(op, ops.Fused):
        values, terms, floors = list(operands), list(operands), [0.0] * len(operands)
        for part in op.parts:
            made = evaluate_op(part.op, [values[number] for number in part.operands], scalars)
            read = [terms[number] for number in part.operands]
            floors.extend(_cancellation_floors(part.op, read, len(made), scalars))
            values.extend(made)
            terms.extend([_scaled(part.op, read, scalars)] if isinstance(part.op, ops.BatchNormInputGrad) else made)
        return [floors[number] for number in op.results]
    if isinstance(op, ops.BatchNormInputGrad):
        return [CANCELLATION * float(np.linalg.norm(_scaled(op, operands, scalars)))]
    if not isinstance(op, SUMS):
        return [0.0] * results
    if isinstance(op, ops.BatchNormReduce):
        dy, x, mean, var = operands
        operands = [dy, x - mean, np.zeros_like(mean), var]
    sums = evaluate_op(op, [np.abs(operand) for operand in operands], scalars)
    return [CANCELLATION * max(float(np.linalg.norm(one)) for one in sums)] * results


def _scaled(op: ops.BatchNormInputGrad, operands: list[Array], scalars: Scalars) -> Array:
    """The largest terms of a batch norm's gradient: what its corrections are taken from."""
    dy, _, _, var, gamma, _, _ = operands
    (scaled,) = evaluate_op(ops.BatchNormScale(op.eps), [np.abs(dy), np.abs(gamma), var], scalars)
    return scaled


def _blocks(device: Device, plan: Plan, schedule: Schedule, n: int) -> dict[Key, Any]:
    """Fresh memory for one step of a plan."""
    sizes: dict[Key, int] = {}
    for buffer in schedule.buffers:
        key = block_key(buffer)
        sizes[key] = max(sizes.get(key, 0), buffer.offset.at(n) + buffer.size.at(n))
    sizes[Space.WORK] = max(sizes.get(Space.WORK, 0), schedule.work.at(n))
    return {key: device.allocate(size) for key, size in sizes.items()}


def random_params(model: Model, seed: int) -> dict[str, Array]:
    """Initial weights, with biases, gammas and running statistics moved off their special values."""
    values = {spec.name: value for spec, value in initial_values(model.params(), seed)}
    rng = np.random.default_rng([seed, 1])
    for spec in model.params():
        if spec.init.kind in ("zeros", "ones"):
            values[spec.name] = values[spec.name] + rng.uniform(0.0, 0.5, spec.torch_shape)
    return values


def random_inputs(graph: Graph, batch: int, seed: int) -> dict[str, Array]:
    rng = np.random.default_rng([seed, 2])
    inputs: dict[str, Array] = {}
    for node in graph.walk():
        if not isinstance(node.op, ops.Input):
            continue
        if node.op.element is Element.LABEL:
            logits = graph.type_of(graph.outputs["logits"]).shape[-1]
            inputs[node.name] = rng.integers(0, logits, (batch, *node.op.shape))
        else:
            inputs[node.name] = rng.standard_normal((batch, *node.op.shape))
    return inputs
