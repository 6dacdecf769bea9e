"""Runs a generated module's launch table: on a CUDA card, or in Triton's interpreter on numpy memory."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from cnnc.codegen.launch import Argument, Descriptor, Integer, Launch, Module, Pointer
from cnnc.env import cache_directory
from cnnc.errors import UsageError
from cnnc.files import write_text
from cnnc.ir.plan import Buffer, Plan, Schedule, Step
from cnnc.runtime.memory import Key, block_key
from cnnc.runtime.scalars import Scalars

MISSING = "running kernels needs Triton: pip install triton (Linux only); device cpu does without"
MAX_ROWS = 2**31  # kernels count rows (pixels times images) in 32 bits; offsets have 64

_lock = threading.Lock()


def interpreter_module() -> Any:
    """``cnnc.runtime.interpreter``, which imports Triton.

    Raises:
        UsageError: Triton is not installed.
    """
    try:
        return importlib.import_module("cnnc.runtime.interpreter")
    except ImportError as error:
        raise UsageError(MISSING) from error


def write_module(source: str) -> Path:
    """The file that holds a generated source, named by its content."""
    name = hashlib.sha256(source.encode()).hexdigest()[:16]
    path = cache_directory() / "modules" / f"kernels_{name}.py"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, source)
    return path


def load_module(source: str, device: str) -> ModuleType:
    """Import a generated source from its file; the interpreter gets a copy of its own."""
    path = write_module(source)
    name = f"cnnc_{path.stem}_{device}"
    with _lock:
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(name, path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            sys.modules[name] = module
        return sys.modules[name]


class TritonExecutor:
    """Runs the steps of one plan by its module's launch table.

    ``device`` is ``interpret`` (blocks are numpy arrays of bytes) or ``cuda`` (torch tensors of bytes).
    """

    def __init__(self, plan: Plan, module: Module, device: str) -> None:
        self._device = device
        self._interpreter = interpreter_module()
        self._kernels = load_module(module.source, device)
        self._tables = {(table.low, table.high): {**table.prepare, **table.steps} for table in module.tables}

    def run(self, schedule: Schedule, steps: Sequence[Step], blocks: Mapping[Key, Any], scalars: Scalars) -> None:
        """Run these steps in order.

        Raises:
            UsageError: the batch has more rows than kernels count.
        """
        table = self._tables[schedule.low, schedule.high]
        buffers = {buffer.id: buffer for buffer in schedule.buffers}
        launches = [launch for step in steps for launch in table[step.name]]
        if self._device == "interpret":
            with self._interpreter.interpreting():
                for launch in launches:
                    self._interpret(launch, buffers, blocks, scalars)
            return
        for launch in launches:
            self._compiled(launch, buffers, blocks, scalars)

    def forget(self) -> None:
        """Nothing to let go of: a run keeps no block."""

    def scratch_bytes(self, schedule: Schedule, n: int) -> int:
        """None on a card. What Triton's interpreter computes with on the host is not foreseen."""
        return 0

    def _interpret(
        self, launch: Launch, buffers: Mapping[int, Buffer], blocks: Mapping[Key, Any], scalars: Scalars
    ) -> None:
        arguments = {}
        for name, argument in launch.arguments:
            if isinstance(argument, Pointer | Descriptor):
                buffer = buffers[argument.buffer]
                value: int | float = blocks[block_key(buffer)].ctypes.data + byte_offset(buffer, scalars.n)
            else:
                value = number(argument, scalars)
            if isinstance(argument, Descriptor):
                arguments[name] = self._interpreter.descriptor_of(argument, value, scalars.n, buffers)
            else:
                arguments[name] = self._interpreter.tensor_of(argument, value, buffers)
        kernel = getattr(self._kernels, launch.kernel)
        self._interpreter.run(kernel, arguments, launch.constants, grid_of(launch, scalars.n))

    def _compiled(
        self, launch: Launch, buffers: Mapping[int, Buffer], blocks: Mapping[Key, Any], scalars: Scalars
    ) -> None:
        arguments = []
        for _, argument in launch.arguments:
            if isinstance(argument, Pointer | Descriptor):
                buffer = buffers[argument.buffer]
                tensor = typed(blocks[block_key(buffer)], buffer, scalars.n)
                described = isinstance(argument, Descriptor)
                arguments.append(
                    self._interpreter.host_descriptor(argument, tensor, scalars.n) if described else tensor
                )
            else:
                arguments.append(number(argument, scalars))
        kernel = getattr(self._kernels, launch.kernel)
        grid = grid_of(launch, scalars.n)
        # FP fusion as in the ahead-of-time build; Triton's own default changes between versions.
        options = {"num_warps": launch.warps, "num_stages": launch.stages, "enable_fp_fusion": True}
        kernel[grid](*arguments, **launch.constants, **options)


def byte_offset(buffer: Buffer, n: int) -> int:
    """Bytes from a block's start to a buffer's pixel (0, 0) of image 0."""
    return buffer.offset.at(n) + buffer.origin.at(n) * buffer.item_bytes


def typed(block: Any, buffer: Buffer, n: int) -> Any:
    """A torch tensor in the buffer's dtype that begins at its first element; Triton takes its address."""
    torch = sys.modules["torch"]  # the block is one of its tensors
    part = block[byte_offset(buffer, n) :]
    return part[: part.numel() // buffer.item_bytes * buffer.item_bytes].view(getattr(torch, buffer.dtype))


def number(argument: Argument, scalars: Scalars) -> int | float:
    """The value of an argument that is no address."""
    if isinstance(argument, Integer):
        return argument.value.at(scalars.n)
    assert not isinstance(argument, Pointer | Descriptor)
    value: int | float = getattr(scalars, argument.name)
    return value


def grid_of(launch: Launch, n: int) -> tuple[int, ...]:
    """Programs along each axis.

    Raises:
        UsageError: the batch has more rows than kernels count.
    """
    for programs in launch.grid:
        if programs.rows.at(n) >= MAX_ROWS:
            raise UsageError(f"a batch of {n} gives {launch.kernel} more than 2^31 rows; use a smaller batch")
    return tuple(programs.at(n) for programs in launch.grid)
