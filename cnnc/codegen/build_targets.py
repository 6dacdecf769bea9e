"""The GPUs that kernels can be built for, by the names the command line takes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from cnnc.errors import UsageError

KIB = 1024


@dataclass(frozen=True)
class Target:
    """One GPU architecture: Triton's (backend, arch, warp size) and a program's shared memory in bytes."""

    name: str
    backend: str
    arch: int | str
    warp_size: int
    shared_limit: int

    @property
    def extension(self) -> str:
        return "cubin" if self.backend == "cuda" else "hsaco"


def _cuda(arch: int, kib: int) -> Target:
    return Target(f"sm_{arch}", "cuda", arch, 32, kib * KIB)


def _hip(arch: str, kib: int) -> Target:
    return Target(arch, "hip", arch, 64, kib * KIB)


# Shared memory per block: CUDA programming guide, "Technical specifications per compute capability"; LDS per
# workgroup: AMD's CDNA instruction set manuals.
TARGETS = {
    target.name: target
    for target in (
        _cuda(80, 163),
        _cuda(86, 99),
        _cuda(89, 99),
        _cuda(90, 227),
        _cuda(100, 227),
        _cuda(120, 99),
        _hip("gfx90a", 64),
        _hip("gfx942", 64),
        _hip("gfx950", 160),
    )
}


def parse_targets(names: str | Iterable[str]) -> tuple[str, ...]:
    """Canonical target names of ``sm_90,gfx942`` or of several such words, each once, in order.

    Raises:
        UsageError: a name is unknown, or there is none.
    """
    words = names.split(",") if isinstance(names, str) else [word for name in names for word in name.split(",")]
    found = dict.fromkeys(target(word.strip()).name for word in words if word.strip())
    if not found:
        raise UsageError(f"no target given; known targets are {', '.join(TARGETS)}")
    return tuple(found)


def target(name: str) -> Target:
    """The target of a name: ``sm_90`` (also ``sm90``, ``sm_90a``), ``gfx942``.

    Raises:
        UsageError: the name is unknown.
    """
    canonical = re.sub(r"^sm_?(\d+)a?$", r"sm_\1", name.lower())
    if canonical not in TARGETS:
        shown = name if len(name) <= 40 else name[:37] + "..."
        printable = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in shown)
        raise UsageError(f"unknown target '{printable}'; known targets are {', '.join(TARGETS)}")
    return TARGETS[canonical]
