"""What a kernel must meet before it may be launched, and the sentences that say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cnnc.codegen.build_cache import Report
from cnnc.codegen.build_requests import Place, Request, Work
from cnnc.codegen.build_targets import TARGETS
from cnnc.codegen.launch import DESCRIPTOR, Launch, Module
from cnnc.errors import CompileError
from cnnc.ir.plan import Step

MAX_SHOWN = 10


# What a product fed through tensor descriptors must be made of.
MATRIX_UNITS = {"sm_90": "wgmma", "sm_100": "tcgen05"}


def faults(report: Report, request: Request) -> list[str]:
    """Why a kernel is refused on its target: spilled registers, serialised wgmma, too much shared memory.

    One that takes tensor descriptors is also refused if the compiler made no block loads or no matrix product of it.
    """
    target = request.target
    found = []
    if report.spills:
        found.append(f"spills registers ({report.spills} bytes stored and loaded, {report.registers} registers)")
    if report.serialized:
        found.append(f"has serialised wgmma instructions ({report.serialized})")
    limit = TARGETS[target].shared_limit
    if report.shared > limit:
        found.append(f"needs {report.shared} bytes of shared memory, {target} has {limit}")
    if any(kind.startswith(DESCRIPTOR) for _, kind in request.signature):
        unit = MATRIX_UNITS.get(target)
        if unit is None:
            found.append(f"takes tensor descriptors, which {target} has not")
        elif report.matrix != unit:
            found.append(f"uses no {unit} instructions")
        elif not report.loads:
            found.append("loads no blocks through its descriptors")
    return found


def refuse(problems: Mapping[str, Sequence[str]], work: Work, modules: Mapping[str, Module]) -> None:
    """Raise if there are problems, by request key, with the layers and lines that each kernel computes.

    Raises:
        CompileError: one line per refused kernel.
    """
    if not problems:
        return
    lines = []
    for key, reasons in list(problems.items())[:MAX_SHOWN]:
        request = work.requests[key]
        places = [place for (place, target), found in work.keys.items() if found == key and target == request.target]
        lines.append(f"{_where(places, modules)}: kernel {_kernel(request)} {' and '.join(reasons)}")
    if len(problems) > MAX_SHOWN:
        lines.append(f"... and {len(problems) - MAX_SHOWN} more kernels")
    raise CompileError("\n".join(lines))


def _kernel(request: Request) -> str:
    constants = ", ".join(f"{name}={value}" for name, value in request.constants)
    options = f"{request.warps} warps, {request.stages} stages"
    return f"{request.kernel} for {request.target} ({constants}{', ' if constants else ''}{options})"


def _where(places: Sequence[Place], modules: Mapping[str, Module]) -> str:
    layers: dict[str, None] = {}
    lines: dict[str, None] = {}
    for place in places:
        step, launch = step_of(place, modules), launch_of(place, modules)
        layers.update(dict.fromkeys(launch.layers or (place.step,)))
        if step is not None and step.span is not None:
            lines[f"{step.span.source.name}:{step.span.line}"] = None
    shown = list(layers)[:4] + (["..."] if len(layers) > 4 else [])
    plural = "s" if len(layers) > 1 else ""
    return f"{next(iter(lines)) + ': ' if lines else ''}layer{plural} {', '.join(shown)}"


def launch_of(place: Place, modules: Mapping[str, Module]) -> Launch:
    """The launch that stands at a place."""
    table = modules[place.label].tables[place.schedule]
    steps = table.prepare if place.section == "prepare" else table.steps
    return steps[place.step][place.number]


def step_of(place: Place, modules: Mapping[str, Module]) -> Step | None:
    """The plan's step that a launch belongs to."""
    schedule = modules[place.label].plan.schedules[place.schedule]
    steps = schedule.prepare if place.section == "prepare" else schedule.steps
    return next((step for step in steps if step.name == place.step), None)
