"""Compiling a program to a folder of kernels, for cards that need not be there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cnnc.api.fitting import Planner, build_fitting
from cnnc.api.inputs import dtype_name
from cnnc.codegen.artifact import Artifact, check_replaceable, write_artifact
from cnnc.codegen.build_targets import parse_targets
from cnnc.errors import UsageError
from cnnc.frontend import load, read_source
from cnnc.ir.model import Model
from cnnc.ir.types import ITEM_BYTES
from cnnc.passes.budget import Budget, segments_within
from cnnc.passes.pipelines import Without, arenas_of, compile_plan, left_out, optimise
from cnnc.passes.plan import make_plan

DEFAULT_TARGETS = ("sm_90",)


@dataclass(frozen=True)
class Built:
    """What ``build_artifact`` wrote."""

    directory: str
    model: str
    dtype: str
    targets: tuple[str, ...]
    launches: Mapping[str, int]  # by variant, at the largest bucket of N
    kernels: int  # distinct, over all targets
    reused: int  # of these, found in the cache

    def __str__(self) -> str:
        launches = ", ".join(f"{variant} {count}" for variant, count in self.launches.items())
        return (
            f"{self.directory}: {self.model} in {self.dtype} for {', '.join(self.targets)}: "
            f"{self.kernels} kernels ({self.reused} from the cache); launches per run: {launches}"
        )


def build_artifact(
    program: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    targets: Sequence[str] = DEFAULT_TARGETS,
    dtype: str = "float32",
    train: bool = False,
    progress: Callable[[str], None] | None = None,
    without: Iterable[str] = (),
    memory_budget: int | None = None,
) -> Built:
    """Compile a program's kernels and write ``kernels.py``, ``plan.json`` and a binary per kernel and target.

    Args:
        program: path to a ``.cnn`` file, or its text.
        directory: written as a whole or not at all; an earlier artifact there is replaced.
        targets: ``sm_90``, ``sm_80``, ``sm_100``, ``gfx942``.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        train: also the training step, training-mode forward, vector-Jacobian product and update.
        progress: told what is being done.
        without: names of optional passes to leave out.
        memory_budget: bytes that a training step on the program's batch may take.

    Raises:
        CnnError: the program, a target, the directory or a pass's name is wrong, or a kernel spills or is serialised.
    """
    name = dtype_name(dtype)
    if name == "float64":
        raise UsageError("float64 runs on device cpu only; compile for float32, bfloat16 or float16")
    passes = left_out(without)
    check_replaceable(directory)
    source = read_source(program)
    model = load(source)
    budget = None if memory_budget is None else Budget(memory_budget, model.train.batch)
    planners = _planners(model, parse_targets(targets), name, train, passes, budget)

    def tell(done: int, total: int, kernel: str) -> None:
        if progress is not None:
            progress(f"{done} of {total} kernels ({kernel})")

    binaries = build_fitting(planners, targets, progress=tell)
    artifact = Artifact(model.name, source.text, name, train, binaries.targets, model.sequence)
    write_artifact(directory, artifact, binaries)
    launches = {m.plan.variant: sum(map(len, m.tables[-1].steps.values())) for m in binaries.modules.values()}
    kernels = len(binaries.compiled)
    return Built(os.fspath(directory), model.name, name, binaries.targets, launches, kernels, binaries.reused)


def _planners(
    model: Model, targets: Sequence[str], dtype: str, train: bool, without: Without, budget: Budget | None
) -> dict[str, Planner]:
    """What makes the plan of each variant and target: tiles are chosen per target."""
    variants = ["infer"]
    if ITEM_BYTES[dtype] < ITEM_BYTES["float32"]:
        variants.append("cast")
    if train:
        variants += ["forward", "loss", "vjp", "update"]
    planners: dict[str, Planner] = {}
    for target in targets:
        for variant in variants:
            label = variant if len(targets) == 1 else f"{variant}.{target}"
            planners[label] = _planner(model, variant, target, dtype, without, budget)
    return planners


def _planner(model: Model, variant: str, target: str, dtype: str, without: Without, budget: Budget | None) -> Planner:
    """One variant's graph, made once, as plans with some tiles made smaller."""
    if variant in ("update", "cast"):
        return lambda narrowed: compile_plan(model, variant, target, dtype)
    graph = optimise(model, variant, without, segments_within(model, variant, target, dtype, budget, without))
    return lambda narrowed: make_plan(graph, arenas_of(model), variant, target, dtype, narrowed)
