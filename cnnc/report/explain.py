"""What a run launches: each kernel with its layers, bytes, FLOPs, least time, and why it ends where it does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cnnc.codegen import generate
from cnnc.codegen.context import tensor_type
from cnnc.codegen.launch import Launch, Module
from cnnc.errors import UsageError
from cnnc.ir import ops
from cnnc.ir.model import Model
from cnnc.ir.plan import Step
from cnnc.ir.roofline import Cost
from cnnc.ir.types import ITEM_BYTES, Element, resolve
from cnnc.passes.alone import alone
from cnnc.passes.budget import Budget, segments_within
from cnnc.passes.pipelines import NOTHING, OPTIONAL, Without, arenas_of, optimise
from cnnc.passes.plan import arena_plan, make_plan
from cnnc.passes.roofline import Roofline
from cnnc.passes.why_not import WhyNot
from cnnc.report.issued import issued_bytes


@dataclass(frozen=True)
class Group:
    """One launch. ``bytes`` are its operands and results, each once; ``issued_bytes`` what its tiles load and store."""

    name: str
    layers: tuple[str, ...]
    kernel: str
    bytes: int
    issued_bytes: int
    flops: int
    why_not: str

    @property
    def roofline_us(self) -> float:
        return Cost(self.bytes, self.flops).roofline_us


@dataclass(frozen=True)
class Totals:
    """Sums over all launches of a run; ``kernels`` counts these."""

    bytes: int
    issued_bytes: int
    flops: int
    roofline_us: float
    kernels: int


@dataclass(frozen=True)
class Explained:
    """A run: its launches in order, and what it would cost with every op alone.

    ``prepared`` are the launches of inference that only follow a change of weights; no total counts them.
    """

    name: str
    batch: int
    dtype: str
    target: str
    groups: tuple[Group, ...]
    prepared: tuple[Group, ...]
    alone: Totals

    @property
    def totals(self) -> Totals:
        return _totals(self.groups)


def explain(
    model: Model,
    *,
    batch: int,
    dtype: str,
    target: str,
    train: bool = False,
    without: Without = NOTHING,
    budget: Budget | None = None,
) -> Explained:
    """Compile a run up to its kernels' text and take it apart. Needs neither Triton nor a GPU.

    With ``train`` the run is a training step: loss, gradients, update, and the cast of the weights where the dtype has
    16 bits. A ``budget`` bounds its memory.

    Raises:
        UsageError: the dtype has no GPU kernels.
    """
    if dtype == "float64":
        raise UsageError("float64 runs on device cpu only; explain float32, bfloat16 or float16")
    arenas = arenas_of(model)
    variant = "loss" if train else "infer"
    graph = optimise(model, variant, without, segments_within(model, variant, target, dtype, budget, without))
    module = generate(make_plan(graph, arenas, variant, target, dtype))
    reasons = WhyNot(graph, without)
    prepared = tuple(_groups(module, "prepare", batch, reasons))
    groups = tuple(_groups(module, "steps", batch, reasons))
    apart = alone(optimise(model, variant, frozenset(OPTIONAL)))
    costs = list(Roofline(apart, batch, dtype).costs().values())
    if train:
        whole: list[ops.SgdUpdate | ops.CastArena] = [ops.SgdUpdate(arenas.params.decayed, arenas.params.clipped)]
        if ITEM_BYTES[dtype] < ITEM_BYTES[resolve(Element.ACC, dtype)]:
            whole.append(ops.CastArena())
        plans = [arena_plan(op, arenas, model.name, target, dtype) for op in whole]
        rest = tuple(group for plan in plans for group in _groups(generate(plan), "steps", batch, None))
        groups, prepared = prepared + groups + rest, ()  # weights change with every step
        costs += [Cost(group.bytes, group.flops) for group in rest]
    return Explained(model.name, batch, dtype, target, groups, prepared, _sum(costs))


def _groups(module: Module, section: str, batch: int, reasons: WhyNot | None) -> Iterator[Group]:
    """The launches of the bucket that holds the batch."""
    schedule = module.plan.schedule(batch)
    table = module.tables[module.plan.schedules.index(schedule)]
    steps: Sequence[Step] = getattr(schedule, section)
    launches = getattr(table, section)
    buffers = {buffer.id: buffer for buffer in schedule.buffers}
    types = {index: tensor_type(buffer) for index, buffer in buffers.items()}
    for step in steps:
        issued = issued_bytes(step, buffers, types, batch)
        for number, launch in enumerate(launches[step.name]):
            why_not = reasons.reason(step.name) if reasons is not None and section == "steps" else ""
            yield _group(launch, batch, issued if number == 0 else None, why_not)


def _group(launch: Launch, batch: int, issued: int | None, why_not: str) -> Group:
    nbytes = launch.bytes.at(batch)
    counts = nbytes, nbytes if issued is None else issued, launch.flops.at(batch)
    return Group(launch.step, launch.layers, launch.kernel, *counts, why_not)


def _totals(groups: Iterable[Group]) -> Totals:
    found = list(groups)
    return Totals(
        sum(group.bytes for group in found),
        sum(group.issued_bytes for group in found),
        sum(group.flops for group in found),
        sum(group.roofline_us for group in found),
        len(found),
    )


def _sum(costs: Sequence[Cost]) -> Totals:
    """Kernels of other people have no tiles that could be known: they issue at least their bytes."""
    nbytes, flops = sum(cost.bytes for cost in costs), sum(cost.flops for cost in costs)
    return Totals(nbytes, nbytes, flops, sum(cost.roofline_us for cost in costs), len(costs))


def explain_json(explained: Explained) -> dict[str, Any]:
    """The same as plain data."""
    return {
        "name": explained.name,
        "batch": explained.batch,
        "dtype": explained.dtype,
        "target": explained.target,
        "groups": [
            {
                "name": group.name,
                "layers": list(group.layers),
                "kernel": group.kernel,
                "bytes": group.bytes,
                "issued_bytes": group.issued_bytes,
                "flops": group.flops,
                "roofline_us": group.roofline_us,
                "why_not": group.why_not,
            }
            for group in explained.groups
        ],
        "totals": _totals_json(explained.totals),
        "alone": _totals_json(explained.alone),
    }


def _totals_json(totals: Totals) -> dict[str, Any]:
    return {
        "bytes": totals.bytes,
        "issued_bytes": totals.issued_bytes,
        "flops": totals.flops,
        "roofline_us": totals.roofline_us,
        "kernels": totals.kernels,
    }
