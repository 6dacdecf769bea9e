"""Runs the steps of a Plan on the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from cnnc.ir import ops
from cnnc.ir.plan import Buffer, Plan, Schedule, Space, Step
from cnnc.ir.size import Size
from cnnc.ir.types import Element, TensorType
from cnnc.runtime.arrays import Array, bfloat16_bits, bfloat16_values
from cnnc.runtime.cpu.columns import clear_border
from cnnc.runtime.cpu.fused import bind_fused
from cnnc.runtime.cpu.operand import NO_HALO, Measure, Operand, Run, Scratch
from cnnc.runtime.cpu.table import BIND
from cnnc.runtime.memory import Block, Key, allocate, block_key, view
from cnnc.runtime.scalars import Scalars

Work = Callable[[], None]
Blocks = Mapping[Key, Block]
MEASURED = 1 << 30  # bytes of work memory up to which scratch memory is measured for just that batch
REMEMBERED = 4  # batch sizes whose bound steps are kept
CALLERS = (Space.INPUT, Space.OUTPUT)  # the caller's arrays may be new at each run
ELEMENTS = {"int32": Element.LABEL, "uint8": Element.INDEX}


class CpuExecutor:
    """Runs one plan's steps over blocks of host memory.

    A step is bound to its arrays once per batch size and rerun as long as the blocks stay the same
    objects; steps that touch the caller's arrays are kept for the last batch size only. Not for two
    threads at once.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._scratch = Scratch()
        self._blocks: dict[Key, Block] = {}
        # (schedule, n) -> step -> what runs it; the objects are kept, so that their ids stay theirs
        self._bound: dict[tuple[int, int], tuple[Schedule, dict[int, tuple[Step, Run]]]] = {}
        self._callers: dict[int, tuple[Step, Run]] = {}  # steps bound to arrays of the last run's caller
        self._callers_of: tuple[int, int] = (0, 0)

    def scratch_bytes(self, schedule: Schedule, n: int) -> int:
        """Memory used beside the plan's own: windows as matrices, partial sums, 16-bit operands in float32."""
        return scratch_bytes(schedule, n)

    def run(self, schedule: Schedule, steps: Sequence[Step], blocks: Blocks, scalars: Scalars) -> None:
        """Run steps of a schedule in order over ``scalars.n`` images.

        16-bit buffers are computed with in float32 and rounded (to nearest even) when stored. The border
        of an image with a halo is zero afterwards.
        """
        self._forget_moved(schedule, blocks, scalars.n)
        known = self._bound[id(schedule), scalars.n][1]
        buffers = {buffer.id: buffer for buffer in schedule.buffers}
        new = [step for step in steps if id(step) not in known and id(step) not in self._callers]
        if self._grow(max(needs(new, buffers, blocks, scalars.n), default=0)):
            known = self._bound.setdefault((id(schedule), scalars.n), (schedule, {}))[1]
        with np.errstate(all="ignore"):  # infinities and NaN go through as on any device
            for step in steps:
                entry = known.get(id(step)) or self._callers.get(id(step))
                if entry is None:
                    entry = (step, bind_step(step, buffers, blocks, scalars.n, self._scratch))
                    (self._callers if _touches_callers(step, buffers) else known)[id(step)] = entry
                entry[1](scalars)

    def _grow(self, needed: int) -> bool:
        """Replace scratch memory if it is too small, and forget what is bound to it; whether it was."""
        if needed <= self._scratch.nbytes:
            return False
        self._bound.clear()
        self._callers.clear()
        self._scratch = Scratch()  # let go of the old block before taking a larger one
        self._scratch = Scratch(needed)
        return True

    def forget(self) -> None:
        """Let go of all memory that steps are bound to; the next run binds them again."""
        self._bound.clear()
        self._callers.clear()
        self._blocks.clear()

    def _forget_moved(self, schedule: Schedule, blocks: Blocks, n: int) -> None:
        """Drop steps bound to memory that is no longer what this run uses."""
        key = (id(schedule), n)
        moved = {place for place, block in blocks.items() if self._blocks.get(place, block) is not block}
        if any(isinstance(place, Space) for place in moved):
            self._bound.clear()
        if moved or self._callers_of != key:
            self._callers.clear()  # and with them the arrays of an earlier caller
            self._blocks = {place: block for place, block in self._blocks.items() if isinstance(place, Space)}
        self._blocks.update(blocks)
        self._callers_of = key
        if key not in self._bound:
            if len(self._bound) >= REMEMBERED:
                del self._bound[next(iter(self._bound))]
            self._bound[key] = (schedule, {})


def scratch_bytes(schedule: Schedule, n: int) -> int:
    """Bytes of scratch memory that a run of ``n`` images takes: the steps are bound, to memory they never use.

    A large batch would take long; what each step takes is then continued in a line from two smaller ones, which
    is too much where pieces of a batch have reached their full size.
    """
    buffers = {buffer.id: replace(buffer, offset=Size()) for buffer in schedule.buffers}
    steps = (*schedule.prepare, *schedule.steps)

    def measured(count: int) -> list[int]:
        block = allocate(max((buffer.size.at(count) for buffer in buffers.values()), default=0))
        return needs(steps, buffers, {block_key(buffer): block for buffer in buffers.values()}, count)

    far = n
    while far > 2 and schedule.work.at(far) > MEASURED:
        far = -(-far // 2)
    at_far = measured(far)
    if far == n:
        return max(at_far, default=0)
    near = far // 2
    pairs = zip(measured(near), at_far, strict=True)
    return max((high + (high - low) * (n - far) // (far - near) for low, high in pairs), default=0)


def needs(steps: Sequence[Step], buffers: Mapping[int, Buffer], blocks: Blocks, n: int) -> list[int]:
    """Bytes of scratch memory that each step takes."""
    result = []
    for step in steps:
        measure = Measure()
        bind_step(step, buffers, blocks, n, measure)
        result.append(measure.needed)
    return result


def _touches_callers(step: Step, buffers: Mapping[int, Buffer]) -> bool:
    touched = [*step.inputs, *(index for index in step.outputs if index is not None)]
    return any(buffers[index].space in CALLERS for index in touched)


def bind_step(step: Step, buffers: Mapping[int, Buffer], blocks: Blocks, n: int, scratch: Scratch) -> Run:
    """Everything about a step that does not change between runs over the same memory."""
    scratch.begin()
    before: list[Work] = []
    after: list[Work] = []
    operands = [_load(buffers[index], blocks, n, scratch, before) for index in step.inputs]
    results = [None if index is None else _result(buffers[index], blocks, n, scratch, after) for index in step.outputs]
    if isinstance(step.op, ops.Fused):
        types = [_type(buffers[index]) for index in step.inputs]
        main = bind_fused(step.op, types, operands, results, scratch, n)
    else:
        main = BIND[type(step.op)](step.op, operands, results, scratch)
    if not before and not after:
        return main

    def run(scalars: Scalars) -> None:
        for item in before:
            item()
        main(scalars)
        for item in after:
            item()

    return run


def _type(buffer: Buffer) -> TensorType:
    return TensorType(buffer.shape, buffer.batched, ELEMENTS.get(buffer.dtype, Element.REAL))


def _load(buffer: Buffer, blocks: Blocks, n: int, scratch: Scratch, before: list[Work]) -> Operand:
    """A buffer to read; a 16-bit one is converted before each run."""
    padded = view(buffer, blocks, n, halo=True)
    if buffer.dtype in ("bfloat16", "float16"):
        stored = padded
        padded = scratch.array(stored.shape, np.float32)
        before.append(_widen(buffer.dtype, stored, padded))
    if not any(buffer.halo):
        return Operand(padded, padded)
    top, _, left, _ = buffer.halo
    inner = padded[:, top : top + buffer.shape[0], left : left + buffer.shape[1]]
    return Operand(inner, padded, buffer.halo)


def _result(buffer: Buffer, blocks: Blocks, n: int, scratch: Scratch, after: list[Work]) -> Array:
    """A buffer to write; a 16-bit one is rounded, and a border zeroed, after each run."""
    array = view(buffer, blocks, n)
    if buffer.halo != NO_HALO:
        after.append(clear_border(view(buffer, blocks, n, halo=True), buffer.halo))
    if buffer.dtype in ("bfloat16", "float16"):
        stored = array
        array = scratch.array(stored.shape, np.float32)
        after.append(_narrow(buffer.dtype, array, stored))
    return array


def _widen(dtype: str, stored: Array, into: Array) -> Work:
    def run() -> None:
        np.copyto(into, bfloat16_values(stored) if dtype == "bfloat16" else stored)

    return run


def _narrow(dtype: str, array: Array, stored: Array) -> Work:
    def run() -> None:
        np.copyto(stored, bfloat16_bits(array) if dtype == "bfloat16" else array, casting="same_kind")

    return run
