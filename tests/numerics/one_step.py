"""A Plan of one step around an op, run on the cpu over poisoned memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cnnc.ir import ops
from cnnc.ir.params import Arena
from cnnc.ir.plan import ALIGN_BYTES, Buffer, Plan, Schedule, Space, Step
from cnnc.ir.size import Size
from cnnc.ir.types import Element, TensorType, resolve
from cnnc.ir.window import Pad
from cnnc.runtime.arrays import Array, bfloat16_bits, bfloat16_values
from cnnc.runtime.cpu import CpuExecutor
from cnnc.runtime.memory import Block, Key, allocate, view
from cnnc.runtime.scalars import Scalars

NO_HALO: Pad = (0, 0, 0, 0)


@dataclass(frozen=True)
class Setup:
    """How the buffers lie: borders of inputs and outputs (images only), axis order, dtype of the run."""

    dtype: str = "float64"
    input_halo: Pad = NO_HALO
    output_halo: Pad = NO_HALO
    axes: str = "NHWC"


def run_on_cpu(
    op: ops.Op,
    types: Sequence[TensorType],
    arrays: Sequence[Array],
    scalars: Scalars,
    setup: Setup = Setup(),
    wanted: Sequence[bool] | None = None,
) -> list[Array | None]:
    """Results of one op through ``CpuExecutor``; asserts that all is written and that halos are zero."""
    results = op.infer(*types)
    wanted = wanted or [True] * len(results)
    buffers = _buffers([*types, *results], len(types), setup)
    outputs = tuple(len(types) + i if want else None for i, want in enumerate(wanted))
    step = Step(op.name, op, tuple(range(len(types))), outputs, ())
    work = buffers[-1].offset + buffers[-1].size
    schedule = Schedule(1, None, buffers, (), (step,), work, Size())
    plan = Plan("one_step", "infer", "cpu", setup.dtype, Arena(()), Arena(()), (schedule,))
    blocks: dict[Key, Block] = {Space.WORK: allocate(work.at(scalars.n))}
    for kept, array in zip(buffers, arrays, strict=False):
        _write(kept, blocks, scalars.n, array)
    executor = CpuExecutor(plan)
    for _ in range(2):  # the second run reuses what the first one bound
        for i in outputs:
            if i is not None:
                _poison(buffers[i], blocks, scalars.n)
        executor.run(schedule, schedule.steps, blocks, scalars)
    return [None if i is None else _read(buffers[i], blocks, scalars.n) for i in outputs]


def _buffers(types: Sequence[TensorType], inputs: int, setup: Setup) -> tuple[Buffer, ...]:
    offset = Size()
    buffers = []
    for index, kind in enumerate(types):
        image = kind.batched and len(kind.shape) == 3
        halo = (setup.input_halo if index < inputs else setup.output_halo) if image else NO_HALO
        axes = (
            {0: "N", 1: "NC", 2: "NHW", 3: setup.axes}[len(kind.shape)] if kind.batched else "0123"[: len(kind.shape)]
        )
        dtype = resolve(kind.element, setup.dtype)
        buffer = Buffer(index, f"b{index}", Space.WORK, dtype, kind.shape, kind.batched, axes, offset, Size(), halo)
        nbytes = buffer.elements.scaled(buffer.item_bytes)
        # Whole lines per image and a spare one: enough at every N.
        size = Size(a=-(-nbytes.a // ALIGN_BYTES) * ALIGN_BYTES, c=(-(-nbytes.c // ALIGN_BYTES) + 1) * ALIGN_BYTES)
        buffers.append(replace(buffer, size=size))
        offset = offset + size
    return tuple(buffers)


def _write(buffer: Buffer, blocks: dict[Key, Block], n: int, array: Array) -> None:
    stored = view(buffer, blocks, n)
    stored[...] = bfloat16_bits(array) if buffer.dtype == "bfloat16" else array


def _poison(buffer: Buffer, blocks: dict[Key, Block], n: int) -> None:
    """Fill a buffer, border included, with what no op may leave behind."""
    stored = view(buffer, blocks, n, halo=True)
    stored.fill(0xFF if stored.dtype.kind in "u" else np.nan)


def _read(buffer: Buffer, blocks: dict[Key, Block], n: int) -> Array:
    whole = view(buffer, blocks, n, halo=True).copy()
    inner = view(buffer, blocks, n)
    if any(buffer.halo):
        top, _, left, _ = buffer.halo
        whole[:, top : top + inner.shape[1], left : left + inner.shape[2]] = 0
        assert not whole.any(), "a halo is not zero"
    return bfloat16_values(inner) if buffer.dtype == "bfloat16" else inner.copy()


def image(height: int, width: int, channels: int) -> TensorType:
    return TensorType((height, width, channels))


def vector(count: int) -> TensorType:
    """One number per channel of an image."""
    return TensorType((count,))


def parameter(*shape: int) -> TensorType:
    return TensorType(shape, False, Element.ACC)


def relative(actual: Array, expected: Array) -> float:
    """Relative L2 error; infinite where anything is not finite that should be."""
    assert actual.shape == expected.shape
    difference = np.linalg.norm(np.asarray(actual, np.float64).ravel() - np.asarray(expected, np.float64).ravel())
    scale = np.linalg.norm(np.asarray(expected, np.float64).ravel())
    error = float(difference / scale) if scale else float(difference)
    return error if np.isfinite(error) else float("inf")
