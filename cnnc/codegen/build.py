"""Kernels compiled ahead of time, without a GPU: each distinct one once, in parallel, cached by content."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cnnc.codegen.build_cache import Compiled, read, write
from cnnc.codegen.build_gates import faults, refuse
from cnnc.codegen.build_pool import compile_all
from cnnc.codegen.build_requests import Place, Request, Work, collect
from cnnc.codegen.build_targets import TARGETS, parse_targets
from cnnc.codegen.build_text import merge
from cnnc.codegen.launch import Module
from cnnc.env import cache_directory, worker_count

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Binaries:
    """Modules and what their kernels compiled to.

    ``modules`` are those given, by label, over one merged source; ``work`` holds the distinct kernels
    and which launch needs which; ``compiled`` the results by the same keys; ``reused`` counts those
    that came from the cache.
    """

    modules: Mapping[str, Module]
    targets: tuple[str, ...]
    work: Work
    compiled: Mapping[str, Compiled]
    reused: int

    @property
    def source(self) -> str:
        """Text of the merged module."""
        return next(iter(self.modules.values())).source

    def of(self, place: Place, target: str) -> Compiled:
        """The compiled kernel of a launch."""
        return self.compiled[self.work.keys[place, target]]

    def file_name(self, key: str) -> str:
        """Where an artifact keeps a kernel: ``sm_90/conv_fprop-0123456789ab.cubin``."""
        request = self.work.requests[key]
        return f"{request.target}/{request.kernel}-{key[:12]}.{TARGETS[request.target].extension}"


def build(modules: Mapping[str, Module], targets: Sequence[str], *, progress: Progress | None = None) -> Binaries:
    """Compile and check the kernels of some modules.

    Args:
        modules: by a label of the caller's (the variant). Where a variant has modules whose plans
            are made for different targets, each is compiled for its own; else for all targets.
        targets: ``sm_90``, ``gfx942``, ...
        progress: called with (kernels done, kernels in all, name of the last one).

    Raises:
        UsageError: unknown target, Triton missing.
        CompileError: a kernel does not compile, spills registers, serialises wgmma or takes too much shared memory.
    """
    binaries, problems = attempt(modules, targets, progress=progress)
    refuse(problems, binaries.work, binaries.modules)
    return binaries


def attempt(
    modules: Mapping[str, Module], targets: Sequence[str], *, progress: Progress | None = None
) -> tuple[Binaries, dict[str, list[str]]]:
    """Like ``build``, but hands back what is wrong with which kernel (by key); used to compare tile sizes."""
    names = parse_targets(targets)
    merged = merge(modules)
    work = collect(merged, names)
    folder = cache_directory() / "kernels"
    total = len(work.requests)
    compiled: dict[str, Compiled] = {}
    problems: dict[str, list[str]] = {}
    for key in work.requests:
        found = read(folder, key)
        if found is not None:
            compiled[key] = found
    reused = len(compiled)
    missing = [request for key, request in work.requests.items() if key not in compiled]
    _tell(progress, reused, total, "from the cache")
    if missing:
        source = next(iter(merged.values())).source
        for done, (request, outcome) in enumerate(compile_all(source, missing, worker_count()), reused + 1):
            if isinstance(outcome, Compiled):
                compiled[request.key] = outcome
                write(folder, request.key, outcome)
            else:
                problems[request.key] = [f"does not compile: {outcome}"]
            _tell(progress, done, total, _label(request))
    for key, request in work.requests.items():
        if key in compiled and (found_faults := faults(compiled[key].report, request)):
            problems[key] = found_faults
    return Binaries(merged, names, work, compiled, reused), _in_order(problems, work)


def _in_order(problems: dict[str, list[str]], work: Work) -> dict[str, list[str]]:
    return {key: problems[key] for key in work.requests if key in problems}


def _label(request: Request) -> str:
    return f"{request.kernel} for {request.target}"


def _tell(progress: Progress | None, done: int, total: int, label: str) -> None:
    if progress is not None:
        progress(done, total, label)
