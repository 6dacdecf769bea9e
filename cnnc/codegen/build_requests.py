"""What there is to compile: the distinct kernels behind the launches of some modules."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnc.codegen.build_targets import TARGETS
from cnnc.codegen.build_text import digests
from cnnc.codegen.launch import Launch, Module, argument_type, divisible_by_16
from cnnc.errors import UsageError
from cnnc.ir.plan import Buffer

KEY_FORMAT = 3  # raised when the worker's options or its report change

Constant = int | float | bool | str


@dataclass(frozen=True)
class Place:
    """Where a launch stands: the module's label, the schedule, ``prepare`` or ``steps``, the step, its number there."""

    label: str
    schedule: int
    section: str
    step: str
    number: int


@dataclass(frozen=True)
class Request:
    """One kernel to compile: runtime parameters with types, which are multiples of 16, constants, options.

    ``key`` is the hash of all that determines the binary.
    """

    key: str
    kernel: str
    target: str
    signature: tuple[tuple[str, str], ...]
    divisible: tuple[str, ...]
    constants: tuple[tuple[str, Constant], ...]
    warps: int
    stages: int


@dataclass(frozen=True)
class Work:
    """Distinct requests by key, and the key of each launch for each target it is built for."""

    requests: Mapping[str, Request]
    keys: Mapping[tuple[Place, str], str]


def launches(label: str, module: Module) -> Iterator[tuple[Place, Launch]]:
    """All launches of a module with their places, in order."""
    for number, table in enumerate(module.tables):
        for section, steps in (("prepare", table.prepare), ("steps", table.steps)):
            for step, items in steps.items():
                for count, launch in enumerate(items):
                    yield Place(label, number, section, step, count), launch


def collect(modules: Mapping[str, Module], targets: Sequence[str]) -> Work:
    """The distinct kernels of modules that share one source, as ``build_text.merge`` makes them."""
    requests: dict[str, Request] = {}
    keys: dict[tuple[Place, str], str] = {}
    texts: dict[str, str] = {}
    for label, module in modules.items():
        texts = texts or digests(module.source)
        buffers = [{buffer.id: buffer for buffer in schedule.buffers} for schedule in module.plan.schedules]
        for target in built_for(label, modules, targets):
            for place, launch in launches(label, module):
                request = _request(launch, buffers[place.schedule], target, texts[launch.kernel])
                requests.setdefault(request.key, request)
                keys[place, target] = request.key
    return Work(requests, keys)


def built_for(label: str, modules: Mapping[str, Module], targets: Sequence[str]) -> tuple[str, ...]:
    """Targets that a module is compiled for: its plan's own, and those that no plan of its variant is made for."""
    plan = modules[label].plan
    owned = {module.plan.target for module in modules.values() if module.plan.variant == plan.variant}
    return tuple(target for target in targets if target == plan.target or target not in owned)


def _request(launch: Launch, buffers: Mapping[int, Buffer], target: str, text: str) -> Request:
    signature = tuple((name, argument_type(argument, buffers)) for name, argument in launch.arguments)
    divisible = tuple(name for name, argument in launch.arguments if divisible_by_16(argument, buffers))
    constants = tuple(sorted(launch.constants.items()))
    options = (launch.warps, launch.stages)
    parts = [KEY_FORMAT, toolchain(target), target, launch.kernel, text, signature, divisible, constants, options]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return Request(key, launch.kernel, target, signature, divisible, constants, launch.warps, launch.stages)


@functools.cache
def toolchain(target: str) -> str:
    """Versions of what compiles for a target, found without importing Triton.

    Raises:
        UsageError: Triton is not installed.
    """
    spec = importlib.util.find_spec("triton")
    if spec is None or spec.origin is None:
        raise UsageError("building kernels needs Triton, which is not installed (it exists for Linux only)")
    package = Path(spec.origin)
    found = re.search(r"^__version__ = ['\"](.+)['\"]", package.read_text(encoding="utf-8"), re.MULTILINE)
    version = found.group(1) if found else "unknown"
    if TARGETS[target].backend != "cuda":
        return f"triton {version}"
    return f"triton {version}, {_ptxas_versions(package.parent / 'backends' / 'nvidia' / 'bin')}"


@functools.cache
def _ptxas_versions(folder: Path) -> str:
    """Release of each ptxas that Triton brings; which one serves a target differs between its versions."""
    versions = []
    for tool in sorted(folder.glob("ptxas*")):
        text = subprocess.run([str(tool), "--version"], capture_output=True, text=True, check=False).stdout
        found = re.search(r"V(\d[\d.]*)", text)
        versions.append(f"{tool.name} {found.group(1) if found else 'unknown'}")
    return ", ".join(versions)
