"""One op as a plan of one step, run through its generated kernels on poisoned memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnnc.codegen import generate
from cnnc.codegen.launch import Module
from cnnc.ir.ops import Op
from cnnc.ir.params import Arena
from cnnc.ir.plan import ALIGN_BYTES, Buffer, Plan, Schedule, Space, Step, Tile
from cnnc.ir.size import Size
from cnnc.ir.types import Element, TensorType, resolve
from cnnc.passes.shared_sums import counter_count, workspace_bytes
from cnnc.passes.tiles import choose_tile
from cnnc.runtime.arrays import bfloat16_bits, bfloat16_values
from cnnc.runtime.memory import allocate, view
from cnnc.runtime.scalars import Scalars
from cnnc.runtime.triton_launcher import TritonExecutor

POISON = 0xFF  # NaN in every float, 255 as an index
GUARD = 2 * ALIGN_BYTES  # bytes after each buffer that nobody may write


@dataclass(frozen=True)
class Operand:
    """An array in logical order and what it is; ``batched`` arrays have N first."""

    array: np.ndarray[Any, Any]
    batched: bool = True
    element: Element = Element.REAL

    @property
    def type(self) -> TensorType:
        shape = self.array.shape[1:] if self.batched else self.array.shape
        return TensorType(tuple(shape), self.batched, self.element)


def image(array: np.ndarray[Any, Any], element: Element = Element.REAL) -> Operand:
    return Operand(array, True, element)


def vector(array: np.ndarray[Any, Any], element: Element = Element.ACC) -> Operand:
    return Operand(array, False, element)


def axes_of(kind: TensorType, layout: str) -> str:
    if not kind.batched:
        return "".join(map(str, range(len(kind.shape))))
    return {0: "N", 1: "NC", 2: "NHW", 3: layout}[len(kind.shape)]


def relative_error(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    """Relative L2 error; shapes must agree."""
    assert found.shape == tuple(expected.shape), (found.shape, expected.shape)
    expected = np.asarray(expected, np.float64)
    scale = float(np.linalg.norm(expected.ravel()))
    return float(np.linalg.norm((found.astype(np.float64) - expected).ravel())) / (scale or 1.0)


def plan_of(
    op: Op,
    operands: Sequence[TensorType],
    *,
    layout: str = "HWNC",
    dtype: str = "float32",
    target: str = "interpret",
    n: int = 4,
    tile: Tile | None = None,
    wanted: Sequence[bool] | None = None,
    in_place: dict[int, int] | None = None,
) -> Plan:
    """A plan of this op alone; ``wanted`` says which results have a buffer, ``in_place`` which share an operand's."""
    results = op.infer(*operands)
    tile = tile or choose_tile(op, tuple(operands), results, n, target, dtype)
    buffers: list[Buffer] = []
    offset = Size()

    def add(name: str, kind: TensorType | None, size: Size | None = None) -> int:
        nonlocal offset
        kind = kind or TensorType((size.c // 4 if size else 0,), False, Element.ACC)
        concrete = resolve(kind.element, dtype)
        buffer = Buffer(
            len(buffers), name, Space.WORK, concrete, kind.shape, kind.batched, axes_of(kind, layout), offset, Size()
        )
        nbytes = size or buffer.elements.scaled(buffer.item_bytes)
        # Aligned at every N: whole units of bytes per image.
        nbytes = replace(nbytes, a=_aligned(nbytes.a), c=_aligned(nbytes.c))
        buffers.append(replace(buffer, size=nbytes))
        offset = offset + nbytes + Size(c=GUARD)
        return buffer.id

    inputs = tuple(add(f"in{i}", kind) for i, kind in enumerate(operands))
    wanted = wanted or [True] * len(results)
    sharing = in_place or {}
    outputs = tuple(
        None if not want else inputs[sharing[i]] if i in sharing else add(f"out{i}", kind)
        for i, (kind, want) in enumerate(zip(results, wanted, strict=True))
    )
    size = workspace_bytes(op, tuple(operands), results, tile)
    workspace = add("workspace", None, size) if size != Size() else None
    counters = None
    if tile is not None and (count := counter_count(op, tuple(operands), results, tile)):
        nbytes = Size(c=_aligned(4 * count))
        counters = len(buffers)
        buffers.append(Buffer(counters, "counters", Space.COUNTERS, "int32", (count,), False, "0", Size(), nbytes))
    step = Step("step", op, inputs, outputs, ("layer",), tile, workspace, counters)
    schedule = Schedule(1, None, tuple(buffers), (), (step,), offset, Size())
    return Plan("test", "infer", target, dtype, Arena(()), Arena(()), (schedule,))


def _aligned(count: int) -> int:
    return -(-count // ALIGN_BYTES) * ALIGN_BYTES


def run_step(
    op: Op,
    operands: Sequence[Operand],
    *,
    device: str = "interpret",
    scalars: Scalars | None = None,
    n: int | None = None,
    **options: Any,
) -> list[np.ndarray[Any, Any] | None]:
    """Results of an op's kernels, in logical order; memory beside the results must stay poisoned."""
    n = n or next((len(item.array) for item in operands if item.batched), 1)
    plan = plan_of(op, [item.type for item in operands], n=n, **options)
    return run_plan(plan, generate(plan), operands, scalars or Scalars(n), device)


def run_plan(
    plan: Plan, module: Module, operands: Sequence[Operand], scalars: Scalars, device: str = "interpret"
) -> list[np.ndarray[Any, Any] | None]:
    schedule = plan.schedules[0]
    (step,) = schedule.steps
    n = scalars.n
    block = allocate(schedule.work.at(n))
    block[:] = POISON
    buffers = {buffer.id: buffer for buffer in schedule.buffers}
    for index, item in zip(step.inputs, operands, strict=True):
        write(buffers[index], block, n, item.array)
    before = block.copy()
    execute(plan, module, schedule, block, scalars, device)
    for buffer in schedule.named(Space.WORK).values():
        untouched = buffer.id not in step.outputs and buffer.id != step.workspace
        start, end = buffer.offset.at(n), (buffer.offset + buffer.size).at(n)
        assert (block[end : end + GUARD] == POISON).all(), f"written beyond {buffer.name}"
        if untouched:
            assert (block[start:end] == before[start:end]).all(), f"{buffer.name} was written"
    return [None if index is None else read(buffers[index], block, n) for index in step.outputs]


def execute(plan: Plan, module: Module, schedule: Schedule, block: Any, scalars: Scalars, device: str) -> None:
    """Run the plan's steps over a host block, on the card through a copy of it."""
    executor = TritonExecutor(plan, module, device)
    need = max((buffer.size.c for buffer in schedule.buffers if buffer.space is Space.COUNTERS), default=0)
    counters = allocate(need)
    if device == "interpret":
        executor.run(schedule, schedule.steps, {Space.WORK: block, Space.COUNTERS: counters}, scalars)
        assert not counters.any(), "counters must be zero again"
        return
    import torch  # noqa: PLC0415 - only where there is a card

    copy = torch.from_numpy(block).cuda()
    zeros = torch.from_numpy(counters).cuda()
    executor.run(schedule, schedule.steps, {Space.WORK: copy, Space.COUNTERS: zeros}, scalars)
    block[:] = copy.cpu().numpy()


def write(buffer: Buffer, block: Any, n: int, array: np.ndarray[Any, Any]) -> None:
    target = view(buffer, {Space.WORK: block}, n)
    target[...] = bfloat16_bits(array) if buffer.dtype == "bfloat16" else array


def read(buffer: Buffer, block: Any, n: int) -> np.ndarray[Any, Any]:
    stored = view(buffer, {Space.WORK: block}, n)
    values = bfloat16_values(stored) if buffer.dtype == "bfloat16" else stored.copy()
    assert not (values.dtype.kind == "f" and np.isnan(values).any()), f"{buffer.name} was not written everywhere"
    return values
