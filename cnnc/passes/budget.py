"""Plans that fit into a given memory, by computing more of the forward pass again."""

from __future__ import annotations

from dataclasses import dataclass

from cnnc.errors import CnnError
from cnnc.ir.model import Model
from cnnc.ir.plan import Plan, Space
from cnnc.ir.types import ITEM_BYTES, Element, resolve
from cnnc.passes.pipelines import NOTHING, Without, compile_plan

# Into how many segments the forward pass is cut, in turn: with two, half of it is computed again.
SEGMENTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)

TRAINING = ("loss", "vjp")  # variants with a backward pass


@dataclass(frozen=True)
class Budget:
    """Bytes that a training step on ``batch`` images may take."""

    bytes: int
    batch: int


def step_bytes(plan: Plan, n: int) -> int:
    """Bytes of a training step: parameters, gradients, momentum, images, and the work arena."""
    schedule = plan.schedule(n)
    acc = ITEM_BYTES[resolve(Element.ACC, plan.dtype)]
    casts = ITEM_BYTES[plan.dtype] < acc
    arenas = plan.params.count * (3 * acc + (ITEM_BYTES[plan.dtype] if casts else 0)) + plan.state.count * acc
    given = [*schedule.named(Space.INPUT).values(), *schedule.named(Space.OUTPUT).values()]
    return arenas + sum(buffer.size.at(n) for buffer in given) + schedule.const.at(n) + schedule.work.at(n)


def segments_within(
    model: Model, variant: str, target: str, dtype: str, budget: Budget | None, without: Without = NOTHING
) -> int:
    """The least number of segments whose plan fits; one, where nothing is computed again, without a budget.

    Raises:
        CnnError: none fits; says what the smallest one takes.
    """
    if budget is None or variant not in TRAINING:
        return 1
    needs = []
    for segments in SEGMENTS:
        needs.append(step_bytes(compile_plan(model, variant, target, dtype, without, segments), budget.batch))
        if needs[-1] <= budget.bytes:
            return segments
    raise CnnError(
        f"a training step of {model.name} on {budget.batch} images takes at least {min(needs):,} bytes, more than the "
        f"budget of {budget.bytes:,}; take a smaller batch"
    )


def plan_within(
    model: Model, variant: str, target: str, dtype: str, budget: Budget | None, without: Without = NOTHING
) -> Plan:
    """The plan that computes least again among those that fit.

    Raises:
        CnnError: none fits.
    """
    segments = segments_within(model, variant, target, dtype, budget, without)
    return compile_plan(model, variant, target, dtype, without, segments)
