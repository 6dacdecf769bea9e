"""Deterministic text of a graph or a Plan, for golden tests and dumps."""

from __future__ import annotations

from cnnc.ir.graph import Graph, Node
from cnnc.ir.plan import Buffer, Plan, Step


def print_graph(graph: Graph) -> str:
    """One line per node in walk order: ``%name = op(%a, %b) attributes : types``, then the outputs."""
    lines = [f"graph {graph.name}"]
    lines.extend(f"  {_node(node)}" for node in graph.walk())
    lines.extend(f"  {name} = {value}" for name, value in graph.outputs.items())
    return "\n".join(lines) + "\n"


def _node(node: Node) -> str:
    operands = ", ".join(map(str, node.operands))
    types = ", ".join(map(str, node.types))
    attributes = node.op.attributes()
    return f"%{node.name} = {node.op.name}({operands}) {attributes}".rstrip() + f" : {types}"


def print_plan(plan: Plan) -> str:
    """Each schedule's buffers (place, layout, size) and steps, a line each."""
    lines = [f"plan {plan.model} {plan.variant} for {plan.target} in {plan.dtype}"]
    for schedule in plan.schedules:
        end = schedule.high if schedule.high is not None else "..."
        lines.append(f"N = {schedule.low} to {end}: work {schedule.work}, const {schedule.const} bytes")
        lines.extend(f"  #{buffer.id} {_buffer(buffer)}" for buffer in schedule.buffers)
        lines.extend(f"  prepare {_step(step)}" for step in schedule.prepare)
        lines.extend(f"  run {_step(step)}" for step in schedule.steps)
    return "\n".join(lines) + "\n"


def _buffer(buffer: Buffer) -> str:
    halo = f" halo={','.join(map(str, buffer.halo))}" if any(buffer.halo) else ""
    shape = "x".join(["N"] * buffer.batched + [str(extent) for extent in buffer.shape]) or "1"
    place = f"{buffer.space.value} + {buffer.offset}, {buffer.size} bytes"
    return f"{buffer.name}: {buffer.dtype} {shape} {buffer.axes}{halo} at {place}{_slice(buffer)}"


def _slice(buffer: Buffer) -> str:
    if not buffer.is_slice:
        return ""
    return f", channels {buffer.first}:{buffer.first + buffer.shape[-1]} of {buffer.channels}"


def _step(step: Step) -> str:
    outputs = ", ".join("-" if index is None else f"#{index}" for index in step.outputs)
    inputs = ", ".join(f"#{index}" for index in step.inputs)
    tile = f" tile={step.tile.m}x{step.tile.n}x{step.tile.k}" if step.tile else ""
    workspace = f" workspace=#{step.workspace}" if step.workspace is not None else ""
    counters = f" counters=#{step.counters}" if step.counters is not None else ""
    return f"{step.name}: {outputs} = {step.op.name}({inputs}){tile}{workspace}{counters}"
