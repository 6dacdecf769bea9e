"""The one module that reads the environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path


def dump_directory() -> Path | None:
    """Where to write the graph after each pass, the Plan and the kernels (``CNNC_DUMP``)."""
    value = os.environ.get("CNNC_DUMP")
    return Path(value) if value else None


def dump(name: str, text: Callable[[], str]) -> None:
    """Write one intermediate result to the dump folder, if there is one."""
    folder = dump_directory()
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text(), encoding="utf-8")


def cache_directory() -> Path:
    """Compiled kernels by content hash: ``CNNC_CACHE``, else the user's cache folder."""
    value = os.environ.get("CNNC_CACHE")
    if value:
        return Path(value)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "cnnc"


def worker_count() -> int:
    """Processes for parallel builds: the cores this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def compiler_environment() -> dict[str, str]:
    """This process's environment without the variables that change what Triton and ptxas produce."""
    changing = ("TRITON_", "PTXAS_", "DISABLE_PTXAS_", "AMDGCN_", "NVPTX_", "LLVM_", "USE_IR_LOC")
    return {name: value for name, value in os.environ.items() if not name.startswith(changing)}
