"""What the executor remembers between runs, and what it must not."""

from __future__ import annotations

import weakref

import numpy as np

from cnnc.ir import ops
from cnnc.ir.params import Arena
from cnnc.ir.plan import Buffer, Plan, Schedule, Space, Step
from cnnc.ir.size import Size
from cnnc.runtime.arrays import Array
from cnnc.runtime.cpu import CpuExecutor
from cnnc.runtime.memory import Block, Key, allocate, view
from cnnc.runtime.scalars import Scalars

COUNT = 3  # channels


def _buffer(index: int, space: Space) -> Buffer:
    return Buffer(index, space.value, space, "float64", (COUNT,), True, "NC", Size(), Size(a=128))


BUFFERS = (_buffer(0, Space.INPUT), _buffer(1, Space.WORK), _buffer(2, Space.OUTPUT))
STEPS = (
    Step("double", ops.Add(), (0, 0), (1,), ()),
    Step("square", ops.Activation("relu"), (1,), (1,), ()),
    Step("out", ops.Add(), (1, 1), (2,), ()),
)
SCHEDULE = Schedule(1, None, BUFFERS, (), STEPS, Size(a=128), Size())
PLAN = Plan("three_steps", "infer", "cpu", "float64", Arena(()), Arena(()), (SCHEDULE,))


def _blocks(x: Array, work: Block) -> dict[Key, Block]:
    given = allocate(128 * len(x))
    blocks: dict[Key, Block] = {"input:input": given, Space.WORK: work, "output:output": allocate(128 * len(x))}
    view(BUFFERS[0], blocks, len(x))[...] = x
    return blocks


def _check(executor: CpuExecutor, x: Array, work: Block) -> None:
    blocks = _blocks(x, work)
    executor.run(SCHEDULE, STEPS, blocks, Scalars(len(x)))
    np.testing.assert_array_equal(view(BUFFERS[2], blocks, len(x)), 4 * np.maximum(x, 0))


def test_any_batch_in_any_order_over_new_inputs() -> None:
    executor, work = CpuExecutor(PLAN), allocate(128 * 65)
    rng = np.random.default_rng(1)
    for n in (1, 3, 63, 3, 64, 65, 1, 2, 4, 5, 1, 65):
        _check(executor, rng.standard_normal((n, COUNT)), work)


def test_memory_that_moves() -> None:
    executor = CpuExecutor(PLAN)
    x = np.random.default_rng(2).standard_normal((4, COUNT))
    first, second = allocate(512), allocate(512)
    _check(executor, x, first)
    before = first.copy()
    _check(executor, x + 1, second)
    np.testing.assert_array_equal(first, before)  # nothing was written where memory used to be
    _check(executor, x, first)


def test_read_only_input() -> None:
    x = np.ones((2, COUNT))
    blocks = _blocks(x, allocate(256))
    blocks["input:input"].flags.writeable = False
    CpuExecutor(PLAN).run(SCHEDULE, STEPS, blocks, Scalars(2))
    np.testing.assert_array_equal(view(BUFFERS[2], blocks, 2), 4 * x)


def test_one_step_alone() -> None:
    executor = CpuExecutor(PLAN)
    blocks = _blocks(np.full((2, COUNT), 3.0), allocate(256))
    executor.run(SCHEDULE, STEPS[:1], blocks, Scalars(2))
    np.testing.assert_array_equal(view(BUFFERS[1], blocks, 2), np.full((2, COUNT), 6.0))


def test_forgotten_memory_is_free() -> None:
    executor, work = CpuExecutor(PLAN), allocate(256)
    kept = weakref.ref(work)
    x = np.ones((2, COUNT))
    _check(executor, x, work)
    del work
    executor.forget()
    assert kept() is None
    _check(executor, x, allocate(256))
