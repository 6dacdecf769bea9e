"""Kernels that fit their targets: where one spills, it is written again with a smaller tile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from cnnc.codegen import generate
from cnnc.codegen.build import Binaries, Progress, attempt
from cnnc.codegen.build_gates import refuse
from cnnc.ir.plan import Plan
from cnnc.passes.plan import Narrowed

ROUNDS = 5  # of making tiles smaller

Planner = Callable[[Narrowed], Plan]


def build_fitting(
    planners: Mapping[str, Planner], targets: Sequence[str], *, progress: Progress | None = None
) -> Binaries:
    """Compile the kernels of some plans, by label, those that the target can't take with smaller and smaller tiles.

    Raises:
        CompileError: a kernel still spills, is serialised or takes too much shared memory with the smallest.
    """
    narrowed: dict[str, dict[tuple[int, str], int]] = {label: {} for label in planners}
    modules = {label: generate(planner({})) for label, planner in planners.items()}
    for round_ in range(ROUNDS + 1):
        binaries, problems = attempt(modules, targets, progress=progress)
        if not problems or round_ == ROUNDS:
            break
        places = {place for (place, _), key in binaries.work.keys.items() if key in problems}
        for label, schedule, step in {(place.label, place.schedule, place.step) for place in places}:
            low = modules[label].plan.schedules[schedule].low
            narrowed[label][low, step] = narrowed[label].get((low, step), 0) + 1
        for label in {place.label for place in places}:
            modules[label] = generate(planners[label](narrowed[label]))
    refuse(problems, binaries.work, binaries.modules)
    return binaries
