"""Compiled kernels on disk by content hash: one file each, complete or not there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Report:
    """What the compiler says about a kernel.

    ``registers`` per thread; ``spills`` in bytes stored and loaded; ``serialized`` says why wgmma
    instructions wait for each other, or is empty; ``shared`` in bytes; ``scratch`` in bytes of global
    memory per program; ``matrix`` names the matrix instruction used (``wgmma``, ``tcgen05``, ``mma.sync``, ``mfma``);
    ``loads`` counts instructions that load blocks through tensor descriptors, and ``maps`` has what the tensor map of
    each of these is encoded with, in the order of the parameters: its swizzle, box, and element type by size and code.
    """

    entry: str
    registers: int
    spills: int
    serialized: str
    warps: int
    shared: int
    scratch: int
    matrix: str
    loads: int
    maps: list[dict[str, Any]]


@dataclass(frozen=True)
class Compiled:
    """The device binary and its report."""

    image: bytes
    report: Report


def read(folder: Path, key: str) -> Compiled | None:
    """The entry of a key; None if there is none or it is damaged."""
    try:
        head, image = _path(folder, key).read_bytes().split(b"\n", 1)
        fields = json.loads(head)
        report = Report(**fields["report"])
        intact = fields["key"] == key and fields["sha256"] == hashlib.sha256(image).hexdigest()
        intact = intact and all(type(getattr(report, name)).__name__ == kind for name, kind in _KINDS.items())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Compiled(image, report) if intact else None


_KINDS = {name: str(kind).partition("[")[0] for name, kind in Report.__annotations__.items()}


def write(folder: Path, key: str, compiled: Compiled) -> None:
    """Store an entry: under a temporary name, then renamed, so that readers see all of it or nothing.

    A cache that can't be written costs time, never a build.
    """
    digest = hashlib.sha256(compiled.image).hexdigest()
    head = json.dumps({"key": key, "sha256": digest, "report": asdict(compiled.report)})
    path = _path(folder, key)
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".tmp", delete=False) as file:
            temporary = file.name
            file.write(head.encode() + b"\n" + compiled.image)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _path(folder: Path, key: str) -> Path:
    return folder / key[:2] / f"{key}.kernel"
