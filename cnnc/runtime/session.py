"""A network at work on one device: its arenas, its plans, and runs of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnc.errors import CnnError
from cnnc.ir.model import Model
from cnnc.ir.params import Arena, ParamSpec
from cnnc.ir.plan import Buffer, Plan, Schedule, Space
from cnnc.ir.size import Size
from cnnc.ir.types import ITEM_BYTES, Element, resolve
from cnnc.passes.budget import Budget, plan_within
from cnnc.passes.pipelines import NOTHING, Without, arenas_of
from cnnc.runtime.arrays import to_stored, to_torch
from cnnc.runtime.device import Device, Executor
from cnnc.runtime.memory import Key, block_key
from cnnc.runtime.scalars import Scalars

ARENAS = {Space.PARAMS, Space.SHADOW, Space.GRADS, Space.MOMENTUM, Space.STATE}


class Session:
    """Persistent memory of one network, and its plans, compiled when first asked for.

    Work memory is one block, as large as the largest run so far, shared by all plans; folded weights
    have a block per plan and bucket, computed again when parameters have changed since. ``without`` names passes that
    its plans leave out; a ``budget`` bounds the memory of those that train.
    """

    def __init__(
        self, model: Model, device: Device, dtype: str, without: Without = NOTHING, budget: Budget | None = None
    ) -> None:
        self.model = model
        self.without = without
        self.budget = budget
        self.device = device
        self.dtype = dtype
        self.arenas = arenas_of(model)
        self._casts = ITEM_BYTES[dtype] < ITEM_BYTES[resolve(Element.ACC, dtype)]
        self._shared: dict[Key, Any] = {}
        self._plans: dict[str, tuple[Plan, Executor, bool]] = {}
        self._const: dict[tuple[str, int], tuple[int, Any]] = {}
        self._io: dict[tuple[str, Key], tuple[int, Any]] = {}
        self._work: tuple[int, Any] = (0, device.allocate(0))
        self._zeros: tuple[int, Any] = (0, device.allocate(0))
        self._version = 0  # counts changes of parameters and running statistics
        self._cast_version = -1

    # -- plans ------------------------------------------------------------------------------------

    def plan(self, variant: str) -> Plan:
        return self._compiled(variant)[0]

    def _compiled(self, variant: str) -> tuple[Plan, Executor, bool]:
        """A variant's plan, what runs it, and whether it writes running statistics."""
        if variant not in self._plans:
            plan = plan_within(self.model, variant, self.device.target, self.dtype, self.budget, self.without)
            self._plans[variant] = plan, self.device.executor(plan), _writes_state(plan)
        return self._plans[variant]

    def predicted_bytes(self, variant: str, n: int, *, update: bool) -> dict[str, int]:
        """Bytes by space for a run of ``n`` images in a new session; ``update`` adds an optimiser step to it.

        ``scratch`` is what kernels take beside the plan's memory, and ``returned`` the copies of what is given out.
        """
        plan, executor, _ = self._compiled(variant)
        schedule = plan.schedule(n)
        arenas = ["update"] * update + ["cast"] * self._casts
        acc = ITEM_BYTES[resolve(Element.ACC, self.dtype)]
        params = self.arenas.params.count * acc
        return {
            "params": params,
            "shadow": self.arenas.params.count * ITEM_BYTES[self.dtype] if self._casts else 0,
            "grads": params if update else 0,
            "momentum": params if update else 0,
            "state": self.arenas.state.count * acc,
            "const": schedule.const.at(n),
            "input": _bytes(schedule, Space.INPUT, n),
            "output": _bytes(schedule, Space.OUTPUT, n),
            "work": schedule.work.at(n),
            "counters": _counter_bytes(schedule),
            "scratch": executor.scratch_bytes(schedule, n) + sum(self._arena_scratch(name) for name in arenas),
            "returned": sum(_copy_bytes(buffer, n) for buffer in schedule.named(Space.OUTPUT).values()),
        }

    def _arena_scratch(self, variant: str) -> int:
        plan, executor, _ = self._compiled(variant)
        return executor.scratch_bytes(plan.schedules[0], 1)

    # -- runs -------------------------------------------------------------------------------------

    def run(
        self, variant: str, inputs: Mapping[str, np.ndarray[Any, Any]], scalars: Scalars
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Run a variant on ``scalars.n`` images; gives the OUTPUT buffers by name.

        Arrays are shaped as the program writes them: those of a 1-D net are ``[N, L, C]``.

        Raises:
            CnnError: the run does not fit into memory; names the predicted bytes.
        """
        try:
            return self._run(variant, inputs, scalars)
        except MemoryError as error:
            total = sum(self.predicted_bytes(variant, scalars.n, update=variant == "loss").values())
            raise CnnError(
                f"{self.model.name} with a batch of {scalars.n} needs {total:,} bytes, more than there are; "
                "take a smaller batch"
            ) from error

    def _run(
        self, variant: str, inputs: Mapping[str, np.ndarray[Any, Any]], scalars: Scalars
    ) -> dict[str, np.ndarray[Any, Any]]:
        plan, executor, writes_state = self._compiled(variant)
        schedule = plan.schedule(scalars.n)
        blocks = self._blocks(variant, schedule, scalars.n)
        self._refresh(variant, schedule, executor, blocks, scalars)
        for name, buffer in schedule.named(Space.INPUT).items():
            self.device.write(buffer, blocks, scalars.n, inputs[name].reshape(scalars.n, *buffer.shape))
        executor.run(schedule, schedule.steps, blocks, scalars)
        if writes_state:
            self._version += 1
        outputs = schedule.named(Space.OUTPUT)
        arrays = {name: self.device.read(buffer, blocks, scalars.n) for name, buffer in outputs.items()}
        return {
            name: array.reshape(scalars.n, *self.model.shown(outputs[name].shape)) if outputs[name].batched else array
            for name, array in arrays.items()
        }

    def update(self, scalars: Scalars) -> None:
        """One optimiser step from the gradients of the last ``loss`` run."""
        self._run_arena("update", scalars)
        self._version += 1

    def _run_arena(self, variant: str, scalars: Scalars) -> None:
        plan, executor, _ = self._compiled(variant)
        schedule = plan.schedules[0]
        executor.run(schedule, schedule.steps, self._persistent(schedule), scalars)

    def _refresh(
        self, variant: str, schedule: Schedule, executor: Executor, blocks: Mapping[Key, Any], scalars: Scalars
    ) -> None:
        """Bring what is computed from parameters up to date: the 16-bit copy and folded weights."""
        if self._casts and self._cast_version != self._version:
            self._run_arena("cast", scalars)
            self._cast_version = self._version
        if schedule.prepare and self._const[variant, schedule.low][0] != self._version:
            executor.run(schedule, schedule.prepare, blocks, scalars)
            self._const[variant, schedule.low] = self._version, blocks[Space.CONST]

    # -- memory -----------------------------------------------------------------------------------

    def _blocks(self, variant: str, schedule: Schedule, n: int) -> dict[Key, Any]:
        blocks = self._persistent(schedule)
        need = schedule.work.at(n)
        if self._work[0] < need:
            self._work = (0, self.device.allocate(0))  # let go of the old block before taking a larger one
            for _, executor, _ in self._plans.values():
                executor.forget()
            self._work = need, self.device.allocate(need)
        blocks[Space.WORK] = self._work[1]
        blocks[Space.COUNTERS] = self._counters(schedule)
        if (variant, schedule.low) not in self._const:
            self._const[variant, schedule.low] = -1, self.device.allocate(schedule.const.at(n))
        blocks[Space.CONST] = self._const[variant, schedule.low][1]
        for buffer in schedule.buffers:
            if buffer.space in (Space.INPUT, Space.OUTPUT):
                key = block_key(buffer)
                blocks[key] = self._io_block(variant, key, buffer.size.at(n))
        return blocks

    def _counters(self, schedule: Schedule) -> Any:
        """Zeros, as every step leaves them."""
        need = _counter_bytes(schedule)
        if self._zeros[0] < need:
            self._zeros = need, self.device.allocate(need)
        return self._zeros[1]

    def _persistent(self, schedule: Schedule) -> dict[Key, Any]:
        """The arenas that a schedule touches; one nobody has asked for yet takes no memory."""
        return {space: self._arena(space) for space in {buffer.space for buffer in schedule.buffers} & ARENAS}

    def _arena(self, space: Space) -> Any:
        if space not in self._shared:
            count = (self.arenas.state if space is Space.STATE else self.arenas.params).count
            element = Element.REAL if space is Space.SHADOW else Element.ACC
            self._shared[space] = self.device.allocate(count * ITEM_BYTES[resolve(element, self.dtype)])
        return self._shared[space]

    def _io_block(self, variant: str, key: Key, need: int) -> Any:
        have = self._io.get((variant, key))
        if have is None or have[0] != need:
            # Exactly as large as needed: a halo's place moves with N, and fresh memory has it zero.
            have = need, self.device.allocate(need)
            self._io[variant, key] = have
        return have[1]

    # -- parameters -------------------------------------------------------------------------------

    def get(self, name: str, space: Space) -> np.ndarray[Any, Any]:
        """A parameter, gradient, momentum or running statistic in PyTorch's layout."""
        spec, buffer = self._stored(name, space)
        return to_torch(spec, self.device.read(buffer, {space: self._arena(space)}, 1))

    def set(self, name: str, space: Space, array: np.ndarray[Any, Any]) -> None:
        """Put such an array where the plans read it."""
        spec, buffer = self._stored(name, space)
        self.device.write(buffer, {space: self._arena(space)}, 1, to_stored(spec, array))
        self._version += 1

    def _stored(self, name: str, space: Space) -> tuple[ParamSpec, Buffer]:
        """How the arena stores it, and where."""
        arena: Arena = self.arenas.state if space is Space.STATE else self.arenas.params
        spec = arena.spec(name)
        dtype = resolve(Element.ACC, self.dtype)
        axes = "".join(str(axis) for axis in range(len(spec.shape)))
        offset = Size(c=arena.offset(name) * ITEM_BYTES[dtype])
        return spec, Buffer(0, name, space, dtype, spec.shape, False, axes, offset, Size(c=spec.count))


def _bytes(schedule: Schedule, space: Space, n: int) -> int:
    """Bytes of the caller's arrays; views of them take none."""
    return sum(buffer.size.at(n) for buffer in schedule.named(space).values())


def _copy_bytes(buffer: Buffer, n: int) -> int:
    """Bytes of a buffer as ``Device.read`` copies it: 16-bit floats come as float32."""
    return max(4, buffer.item_bytes) * math.prod(buffer.shape) * (n if buffer.batched else 1)


def _counter_bytes(schedule: Schedule) -> int:
    """Bytes of the counters that all steps share."""
    return max((buffer.size.c for buffer in schedule.buffers if buffer.space is Space.COUNTERS), default=0)


def _writes_state(plan: Plan) -> bool:
    schedule = plan.schedules[0]
    written = {index for step in schedule.steps for index in step.outputs}
    return any(buffer.space is Space.STATE and buffer.id in written for buffer in schedule.buffers)
