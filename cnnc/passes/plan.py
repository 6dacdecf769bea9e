"""The last pass: graph to Plan, with steps in order, buffers in their places, tiles chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node
from cnnc.ir.params import Arena
from cnnc.ir.plan import Buffer, Plan, Schedule, Space, Step
from cnnc.ir.size import Offset, Size
from cnnc.ir.types import Element, resolve
from cnnc.passes.buffers import Arenas, BufferTable
from cnnc.passes.descriptors import has_descriptors, is_described
from cnnc.passes.memory import Request, pack
from cnnc.passes.rewrite import AND
from cnnc.passes.room import narrower
from cnnc.passes.shared_sums import counter_count, workspace_bytes
from cnnc.passes.tiles import choose_tile, slice_is_aligned


@dataclass(frozen=True)
class Bucket:
    """Batch sizes that share one schedule, and the one it is tuned for."""

    low: int
    high: int | None
    typical: int


BUCKETS = (Bucket(1, 8, 4), Bucket(9, 63, 32), Bucket(64, None, 128))
# Where a tile may have the images at one pixel for rows, half of a high one would be empty at N = 64.
PIXELWISE_BUCKETS = (*BUCKETS[:2], Bucket(64, 127, 64), Bucket(128, None, 128))


def buckets_of(target: str, dtype: str) -> tuple[Bucket, ...]:
    """The buckets of a plan for one target and compute dtype."""
    return PIXELWISE_BUCKETS if has_descriptors(target, dtype) else BUCKETS


Narrowed = Mapping[tuple[int, str], int]  # by the bucket's lowest N and the step: how often its tile is made smaller


def make_plan(
    graph: Graph, arenas: Arenas, variant: str, target: str, dtype: str, narrowed: Narrowed = MappingProxyType({})
) -> Plan:
    """Steps, buffers and offsets of a graph for one target, for every bucket of N.

    ``narrowed`` names steps whose kernels were found to need smaller tiles than the rule gives them.
    """
    table = BufferTable(graph, arenas, target, dtype)
    schedules = tuple(_schedule(table, bucket, narrowed) for bucket in buckets_of(target, dtype))
    return Plan(graph.name, variant, target, dtype, arenas.params, arenas.state, schedules)


def _schedule(table: BufferTable, bucket: Bucket, narrowed: Narrowed) -> Schedule:
    table.drop_workspaces()  # those of the bucket before
    prepare: list[Step] = []
    steps: list[Step] = []
    for node in table.graph.walk():
        if isinstance(node.op, ops.LEAVES) or table.places.is_view(node):
            continue
        step = _step(table, node, bucket, narrowed.get((bucket.low, node.name), 0))
        (prepare if node.name in table.constant else steps).append(step)
    const_offsets, const = _stack(table)
    work_offsets, work = _pack(table, steps, bucket)
    buffers = table.place({**const_offsets, **work_offsets})
    return Schedule(bucket.low, bucket.high, buffers, tuple(prepare), tuple(steps), work, const)


def _step(table: BufferTable, node: Node, bucket: Bucket, narrowed: int) -> Step:
    operands = tuple(table.graph.type_of(value) for value in node.operands)
    inputs = tuple(table.ids[value] for value in node.operands)
    outputs = table.written(node)
    tile = None
    if table.target != "cpu":
        touched = [table.buffers[index] for index in (*inputs, *outputs) if index is not None]
        aligned = all(slice_is_aligned(buffer) for buffer in touched)
        read = [table.buffers[index] for index in inputs]
        described = is_described(node.op, read, operands, table.target, bucket.low)
        problem = node.op, operands, node.types, bucket.typical, table.target, table.dtype
        # Blocks have a least size: below it factors are loaded one by one.
        described = described and narrowed < 2
        tile = narrower(choose_tile(*problem, aligned=aligned, described=described), narrowed)
    workspace = counters = None
    if tile is not None:
        size = workspace_bytes(node.op, operands, node.types, tile)
        workspace = table.workspace(f"{node.name}.workspace", size) if size != Size() else None
        count = counter_count(node.op, operands, node.types, tile)
        counters = table.counters(f"{node.name}.counters", count) if count else None
    return Step(node.name, node.op, inputs, outputs, _layers(node), tile, workspace, counters, node.span)


def _layers(node: Node) -> tuple[str, ...]:
    """The layers of the program that a step computes, or belongs to."""
    parts = node.op.parts if isinstance(node.op, ops.Fused) else ()
    shared = [part.layer for part in parts if part.layer] or [node.layer]
    return tuple(dict.fromkeys(layer for layers in shared for layer in layers.split(AND) if layer))


def _stack(table: BufferTable) -> tuple[dict[int, Size], Size]:
    """CONST buffers side by side: they all persist."""
    offsets: dict[int, Size] = {}
    total = Size()
    for buffer in table.buffers:
        if buffer.space is Space.CONST:
            offsets[buffer.id] = total
            total = total + buffer.size
    return offsets, total


def _pack(table: BufferTable, steps: list[Step], bucket: Bucket) -> tuple[dict[int, Offset], Offset]:
    """Offsets of WORK buffers by the steps between which each is live; a view keeps its root alive."""
    spans: dict[int, tuple[int, int]] = {}
    for position, step in enumerate(steps):
        touched = [*step.inputs, *(i for i in step.outputs if i is not None)]
        for index in touched + ([step.workspace] if step.workspace is not None else []):
            root = table.root(index)
            if table.buffers[root].space is Space.WORK:
                spans[root] = (spans.get(root, (position, 0))[0], position)
    requests = [Request(table.buffers[index].size, first, last) for index, (first, last) in spans.items()]
    offsets, total = pack(requests, bucket.low, bucket.high, bucket.typical)
    return dict(zip(spans, offsets, strict=True)), total


def arena_plan(op: ops.SgdUpdate | ops.CastArena, arenas: Arenas, model: str, target: str, dtype: str) -> Plan:
    """A plan of one step over whole arenas: the optimiser's update, or the cast to the compute dtype."""
    acc, real = resolve(Element.ACC, dtype), resolve(Element.REAL, dtype)
    inputs: tuple[int, ...] = (0,)
    outputs: tuple[int, ...] = (1,)
    spaces = [Space.PARAMS, Space.SHADOW]
    if isinstance(op, ops.SgdUpdate):
        inputs, outputs = (0, 1, 2), (0, 2)
        spaces = [Space.PARAMS, Space.GRADS, Space.MOMENTUM]
    dtypes = [real if space is Space.SHADOW else acc for space in spaces]
    buffers = tuple(
        _whole(index, space, arenas.params, kind)
        for index, (space, kind) in enumerate(zip(spaces, dtypes, strict=True))
    )
    step = Step(op.name, op, inputs, outputs, ())
    variant = "update" if isinstance(op, ops.SgdUpdate) else "cast"
    schedule = Schedule(1, None, buffers, (), (step,), Size(), Size())
    return Plan(model, variant, target, dtype, arenas.params, arenas.state, (schedule,))


def _whole(index: int, space: Space, arena: Arena, dtype: str) -> Buffer:
    buffer = Buffer(index, space.value, space, dtype, (arena.count,), False, "0", Size(), Size())
    return replace(buffer, size=buffer.elements.scaled(buffer.item_bytes))
