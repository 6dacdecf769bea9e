"""Plans as such: memory, strides and the order of steps, for random programs and the shipped models, on all targets."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, combinations
from pathlib import Path

import numpy as np
import pytest

from cnnc.frontend import load, read_source
from cnnc.ir.model import Model
from cnnc.ir.params import ROW_ELEMENTS
from cnnc.ir.plan import ALIGN_BYTES, Buffer, Plan, Schedule, Space, Step
from cnnc.passes.descriptors import has_descriptors
from cnnc.passes.pipelines import VARIANTS, compile_plan
from tests.random_programs import random_model

ROOT = Path(__file__).parent.parent.parent
TARGETS = ("cpu", "interpret", "sm_90")
GIVEN = (Space.INPUT, Space.PARAMS, Space.SHADOW, Space.STATE)
ARENAS = (Space.PARAMS, Space.SHADOW, Space.GRADS, Space.STATE)
RANDOM = 12  # programs


def plans_of(model: Model, target: str) -> Iterator[Plan]:
    for variant in VARIANTS:
        yield compile_plan(model, variant, target, "bfloat16" if target == "sm_90" else "float32")


def sizes_of(schedule: Schedule, largest: int) -> tuple[int, ...]:
    """Batch sizes to look at: both ends of the bucket, and next to the lower one."""
    return schedule.low, schedule.low + 1, schedule.high or largest


@pytest.mark.parametrize("seed", range(RANDOM))
def test_random_plans(seed):
    model = random_model(seed)
    for target in TARGETS:
        for plan in plans_of(model, target):
            check_plan(model, plan, 1000)


@pytest.mark.parametrize("name", ["lenet5", "fashion_mnist_keras", "mnist_9_16"])
def test_plans_of_models(name):
    model = load(read_source(ROOT / "models" / f"{name}.cnn"))
    for target in TARGETS:
        for plan in plans_of(model, target):
            check_plan(model, plan, 200)


def check_plan(model: Model, plan: Plan, largest: int) -> None:
    large = [(64, 127), (128, None)] if has_descriptors(plan.target, plan.dtype) else [(64, None)]
    assert [(s.low, s.high) for s in plan.schedules] == [(1, 8), (9, 63), *large]
    for schedule in plan.schedules:
        assert [buffer.id for buffer in schedule.buffers] == list(range(len(schedule.buffers)))
        check_written(model, plan, schedule)
        for n in sizes_of(schedule, largest):
            for buffer in schedule.buffers:
                check_buffer(buffer, n)
                check_place(plan, schedule, buffer, n)
            check_memory(schedule, n)


def check_buffer(buffer: Buffer, n: int) -> None:
    """Axes, strides and size agree: stored elements are apart, and the last one lies inside."""
    assert sorted(buffer.axes) == sorted(buffer.logical_axes), buffer
    extents = list(buffer.shape)
    if len(extents) == 3 and buffer.batched:
        extents = [extents[0] + sum(buffer.halo[:2]), extents[1] + sum(buffer.halo[2:]), extents[2]]
    extents = [n, *extents] if buffer.batched else extents
    strides = [stride.at(n) for stride in buffer.strides]
    # From the innermost axis out, each stride reaches past all that lies inside it.
    reached = 1
    for stride, extent in sorted(zip(strides, extents, strict=True), key=lambda pair: (pair[0], -pair[1])):
        assert extent == 1 or stride >= reached, buffer
        reached += (extent - 1) * stride
    reached += buffer.first
    assert buffer.first <= buffer.origin.at(n) < reached
    if buffer.space not in ARENAS:
        assert buffer.size.at(n) % ALIGN_BYTES == 0
    assert reached * buffer.item_bytes <= buffer.size.at(n), buffer


def check_place(plan: Plan, schedule: Schedule, buffer: Buffer, n: int) -> None:
    """Every buffer lies in its arena, at an aligned offset, and within another where that is."""
    start, end = buffer.offset.at(n), buffer.offset.at(n) + buffer.size.at(n)
    arena = plan.state if buffer.space is Space.STATE else plan.params
    room = dict.fromkeys(ARENAS, arena.count * buffer.item_bytes)
    room |= {Space.WORK: schedule.work.at(n), Space.CONST: schedule.const.at(n)}
    assert start % (ROW_ELEMENTS * buffer.item_bytes if buffer.space in ARENAS else ALIGN_BYTES) == 0
    assert 0 <= start <= end <= room.get(buffer.space, end), buffer


def check_written(model: Model, plan: Plan, schedule: Schedule) -> None:
    """What a caller or the optimiser reads is written, once; what a step reads was given or written before."""
    written: dict[int, set[int]] = {}  # channels by root
    places: set[tuple[Space, int]] = set()
    buffers = schedule.buffers
    for step in (*schedule.prepare, *schedule.steps):
        for buffer in (buffers[i] for i in step.inputs):
            missing = channels_of(buffer) - written.get(root_of(buffer), set())
            assert buffer.space in GIVEN or not missing, (step.name, buffer.name, missing)
        for buffer in (buffers[i] for i in step.outputs if i is not None):
            assert not written.setdefault(root_of(buffer), set()) & channels_of(buffer)
            assert buffer.space not in (Space.INPUT, Space.PARAMS, Space.SHADOW)
            written[root_of(buffer)] |= channels_of(buffer)
            places.add((buffer.space, buffer.name))
    for name, buffer in schedule.named(Space.OUTPUT).items():
        assert channels_of(buffer) == written[root_of(buffer)], f"{name} is not written everywhere"
    if plan.variant in ("loss", "vjp"):
        trained = {spec.name for spec in model.params() if spec.trainable}
        assert {name for space, name in places if space is Space.GRADS} == trained
    if plan.variant in ("forward", "loss", "vjp"):
        running = {spec.name for spec in model.params() if spec.name.endswith(("running_mean", "running_var"))}
        moved = {name for space, name in places if space is Space.STATE}
        assert moved == running if plan.variant == "loss" or not model.heads else moved <= running


def channels_of(buffer: Buffer) -> set[int]:
    """The channels of its memory that a buffer has; one of no channels has them all."""
    if "C" not in buffer.axes:
        return {0}
    assert buffer.first + buffer.shape[-1] <= max(buffer.channels, buffer.shape[-1])
    return set(range(buffer.first, buffer.first + buffer.shape[-1]))


class Owners:
    """Who wrote what of the work arena: memory in units of ALIGN_BYTES, and the channels of it that are written."""

    def __init__(self, schedule: Schedule, n: int) -> None:
        self.n = n
        self.memory = np.full(-(-schedule.work.at(n) // ALIGN_BYTES), -1, np.int64)
        self.channels: dict[int, set[int]] = {}  # by root

    def write(self, buffer: Buffer) -> None:
        root, place = root_of(buffer), slice(*units(buffer, self.n))
        if root not in self.channels:
            self.memory[place] = root
        assert (self.memory[place] == root).all(), f"{buffer.name} was overwritten before all of it was written"
        assert not self.channels.setdefault(root, set()) & channels_of(buffer), buffer.name
        self.channels[root] |= channels_of(buffer)

    def check_read(self, buffer: Buffer) -> None:
        root, place = root_of(buffer), slice(*units(buffer, self.n))
        assert (self.memory[place] == root).all(), f"{buffer.name} was overwritten"
        assert channels_of(buffer) <= self.channels[root], buffer.name


def root_of(buffer: Buffer) -> int:
    """The buffer whose memory it is."""
    return buffer.id if buffer.within is None else buffer.within


def check_memory(schedule: Schedule, n: int) -> None:
    """Replays all steps on a map of the work arena: what a step reads is still what was written there."""
    owners = Owners(schedule, n)
    for step in schedule.steps:
        reads = [schedule.buffers[i] for i in step.inputs if schedule.buffers[i].space is Space.WORK]
        writes = [buffer for buffer in writes_of(schedule, step) if buffer.space is Space.WORK]
        for buffer in reads:
            owners.check_read(buffer)
        for one, other in [*combinations(writes, 2), *((a, b) for a in reads for b in writes)]:
            assert apart(one, other, n), (step.name, n)
        for buffer in writes:
            owners.write(buffer)


def apart(one: Buffer, other: Buffer, n: int) -> bool:
    """Whether no byte is both buffers'."""
    if root_of(one) == root_of(other):
        return not channels_of(one) & channels_of(other)
    (start, end), (other_start, other_end) = units(one, n), units(other, n)
    return end <= other_start or other_end <= start


def units(buffer: Buffer, n: int) -> tuple[int, int]:
    start = buffer.offset.at(n) // ALIGN_BYTES
    return start, start + buffer.size.at(n) // ALIGN_BYTES


def writes_of(schedule: Schedule, step: Step) -> list[Buffer]:
    written = [i for i in (*step.outputs, step.workspace) if i is not None]
    return [schedule.buffers[i] for i in written]


def live_bytes(schedule: Schedule, n: int) -> int:
    """Bytes of work memory at the step where most is live: no plan can do with less."""
    spans: dict[int, list[int]] = {}
    for position, step in enumerate(schedule.steps):
        for buffer in [*writes_of(schedule, step), *(schedule.buffers[i] for i in step.inputs)]:
            if buffer.space is Space.WORK:
                spans.setdefault(root_of(buffer), [position, position])[1] = position
    change = [0] * (len(schedule.steps) + 1)
    for root, (first, last) in spans.items():
        change[first] += schedule.buffers[root].size.at(n)
        change[last + 1] -= schedule.buffers[root].size.at(n)
    return max(accumulate(change))


def test_offsets_of_large_batches_need_64_bits_and_have_them():
    model = load(read_source(ROOT / "models" / "vgg16.cnn"))
    n = 65_536
    for target in TARGETS:
        for plan in plans_of(model, target):
            schedule = plan.schedule(n)
            assert schedule.work.at(n) > 2**38
            for buffer in schedule.buffers:
                check_buffer(buffer, n)
                check_place(plan, schedule, buffer, n)
