"""Plans and launch tables as JSON: what ``plan.json`` of a compiled network holds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from cnnc.codegen.build import Binaries
from cnnc.codegen.build_requests import Place, built_for
from cnnc.codegen.launch import (
    Argument,
    Descriptor,
    Integer,
    Launch,
    LaunchTable,
    Pointer,
    Programs,
    argument_type,
    divisible_by_16,
)
from cnnc.ir.params import Arena
from cnnc.ir.plan import Buffer, Schedule, Step
from cnnc.ir.size import Highest, Offset

Json = dict[str, object]

LINE = 400  # a buffer or a launch argument fits, a step with its launches does not
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def text(value: object, indent: str = "") -> str:
    """JSON with each object or list on one line where it fits there, else one item per line."""
    line = _encode(value)
    if len(line) <= LINE or not isinstance(value, (Mapping, list, tuple)) or not value:
        return line
    deeper = indent + " "
    if isinstance(value, Mapping):
        items = [f"{_encode(key)}: {text(item, deeper)}" for key, item in value.items()]
    else:
        items = [text(item, deeper) for item in value]
    body = f",\n{deeper}".join(items)
    first, last = ("{", "}") if isinstance(value, Mapping) else ("[", "]")
    return f"{first}\n{deeper}{body}\n{indent}{last}"


def size(value: Offset) -> Json:
    """``a*N + b*ceil(N/t) + c``, or the highest of some such."""
    if isinstance(value, Highest):
        return {"highest": [size(one) for one in value.sizes]}
    return {"a": value.a, "b": value.b, "t": value.t, "c": value.c}


def number(value: float | str) -> object:
    """A constant; JSON has no infinities, so that those become text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def variant(label: str, binaries: Binaries) -> Json:
    """One module: its plan's schedules with their launches."""
    module = binaries.modules[label]
    schedules = zip(module.plan.schedules, module.tables, strict=True)
    return {
        "variant": module.plan.variant,
        "targets": list(built_for(label, binaries.modules, binaries.targets)),
        "schedules": [_schedule(label, i, plan, table, binaries) for i, (plan, table) in enumerate(schedules)],
    }


def arena(value: Arena) -> Json:
    """Where each parameter lies, in elements, and how it is made from PyTorch's array: reshape, then transpose."""
    return {
        "count": value.count,
        "decayed": value.decayed,
        "parameters": [
            {
                "name": spec.name,
                "torch_shape": spec.torch_shape,
                "view": spec.view,
                "permutation": spec.perm,
                "shape": spec.shape,
                "offset": offset,
                "count": spec.count,
                "trainable": spec.trainable,
            }
            for spec, offset in zip(value.specs, value.offsets, strict=True)
        ],
    }


def kernels(binaries: Binaries) -> list[Json]:
    """What the compiler said about each distinct kernel."""
    result: list[Json] = []
    for key, request in binaries.work.requests.items():
        report = binaries.compiled[key].report
        result.append(
            {
                "file": binaries.file_name(key),
                "kernel": request.kernel,
                "target": request.target,
                "entry": report.entry,
                "signature": dict(request.signature),
                "divisible_by_16": request.divisible,
                "constants": {name: number(value) for name, value in request.constants},
                "warps": report.warps,
                "stages": request.stages,
                "registers": report.registers,
                "spills": report.spills,
                "shared": report.shared,
                "scratch": report.scratch,
                "matrix": report.matrix,
                "tensor_maps": report.maps,
            }
        )
    return result


def _schedule(label: str, number_: int, plan: Schedule, table: LaunchTable, binaries: Binaries) -> Json:
    buffers = {buffer.id: buffer for buffer in plan.buffers}

    def launches(section: str, steps: Mapping[str, tuple[Launch, ...]]) -> Json:
        return {
            step: [
                _launch(launch, Place(label, number_, section, step, count), buffers, binaries)
                for count, launch in enumerate(items)
            ]
            for step, items in steps.items()
        }

    return {
        "low": plan.low,
        "high": plan.high,
        "work": size(plan.work),
        "const": size(plan.const),
        "buffers": [_buffer(buffer) for buffer in plan.buffers],
        "prepare": [_step(step) for step in plan.prepare],
        "steps": [_step(step) for step in plan.steps],
        "launches": {"prepare": launches("prepare", table.prepare), "steps": launches("steps", table.steps)},
    }


def _buffer(buffer: Buffer) -> Json:
    return {
        "id": buffer.id,
        "name": buffer.name,
        "space": buffer.space.value,
        "dtype": buffer.dtype,
        "shape": buffer.shape,
        "batched": buffer.batched,
        "axes": buffer.axes,
        "strides": {axis: size(stride) for axis, stride in zip(buffer.logical_axes, buffer.strides, strict=True)},
        "halo": buffer.halo,
        "channels": buffer.channels,
        "first": buffer.first,
        "within": buffer.within,
        "origin": size(buffer.origin),
        "offset": size(buffer.offset),
        "size": size(buffer.size),
        "view": buffer.view,
    }


def _step(step: Step) -> Json:
    tile = step.tile
    return {
        "name": step.name,
        "op": f"{step.op.name} {step.op.attributes()}".rstrip(),
        "layers": step.layers,
        "line": step.span.line if step.span else None,
        "inputs": step.inputs,
        "outputs": step.outputs,
        "workspace": step.workspace,
        "counters": step.counters,
        "tile": None if tile is None else dict(vars(tile)),
    }


def _launch(launch: Launch, place: Place, buffers: Mapping[int, Buffer], binaries: Binaries) -> Json:
    targets = [target for target in binaries.targets if (place, target) in binaries.work.keys]
    return {
        "kernel": launch.kernel,
        "arguments": [_argument(name, argument, buffers) for name, argument in launch.arguments],
        "constants": {name: number(value) for name, value in launch.constants.items()},
        "grid": [_programs(programs) for programs in launch.grid],
        "warps": launch.warps,
        "stages": launch.stages,
        "layers": launch.layers,
        "bytes": size(launch.bytes),
        "flops": size(launch.flops),
        "binaries": {target: binaries.file_name(binaries.work.keys[place, target]) for target in targets},
    }


def _argument(name: str, argument: Argument, buffers: Mapping[int, Buffer]) -> Json:
    common: Json = {"name": name, "type": argument_type(argument, buffers)}
    if isinstance(argument, Pointer):
        return {**common, "buffer": argument.buffer}
    if isinstance(argument, Descriptor):
        shape, strides = (list(map(size, sizes)) for sizes in (argument.shape, argument.strides))
        return {**common, "buffer": argument.buffer, "shape": shape, "strides": strides, "block": argument.block}
    if isinstance(argument, Integer):
        return {**common, "value": size(argument.value), "divisible_by_16": divisible_by_16(argument, buffers)}
    return {**common, "runtime": argument.name}


def _programs(programs: Programs) -> Json:
    return {"rows": size(programs.rows), "block": programs.block, "times": programs.times}
