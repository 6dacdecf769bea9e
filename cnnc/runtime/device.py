"""Devices: where blocks of memory live, and who executes a plan's steps on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from cnnc.codegen import generate
from cnnc.errors import UsageError
from cnnc.ir.plan import Buffer, Plan, Schedule, Step
from cnnc.runtime.arrays import bfloat16_bits, bfloat16_values
from cnnc.runtime.cpu import CpuExecutor
from cnnc.runtime.cuda import CudaMemory, cuda_available, cuda_target
from cnnc.runtime.memory import Key, allocate, block_key, view
from cnnc.runtime.scalars import Scalars
from cnnc.runtime.triton_launcher import TritonExecutor

DEVICES = ("auto", "cpu", "interpret", "cuda")


class Executor(Protocol):
    """Runs steps of one plan over blocks of memory."""

    def run(self, schedule: Schedule, steps: Sequence[Step], blocks: Mapping[Key, Any], scalars: Scalars) -> None:
        """Run these steps of the schedule in order."""

    def forget(self) -> None:
        """Let go of blocks kept from earlier runs, since they have been replaced."""

    def scratch_bytes(self, schedule: Schedule, n: int) -> int:
        """Memory that a run of ``n`` images takes beside the blocks it is given."""


class Device(Protocol):
    """Memory and execution of one kind; blocks are opaque to everybody else."""

    name: str
    target: str

    def allocate(self, nbytes: int) -> Any:
        """Zeroed memory."""

    def write(self, buffer: Buffer, blocks: Mapping[Key, Any], n: int, array: np.ndarray[Any, Any]) -> None:
        """Copy an array in logical axis order into a buffer, converted to its dtype."""

    def read(self, buffer: Buffer, blocks: Mapping[Key, Any], n: int) -> np.ndarray[Any, Any]:
        """A copy of a buffer in logical axis order; 16-bit floats come as float32."""

    def executor(self, plan: Plan) -> Executor:
        """What runs a plan made for this device's target."""


class HostDevice:
    """numpy memory, for the cpu runtime and for Triton's interpreter."""

    def __init__(self, name: str) -> None:
        self.name = self.target = name

    def allocate(self, nbytes: int) -> Any:
        return allocate(nbytes)

    def write(self, buffer: Buffer, blocks: Mapping[Key, Any], n: int, array: np.ndarray[Any, Any]) -> None:
        view(buffer, blocks, n)[...] = bfloat16_bits(array) if buffer.dtype == "bfloat16" else array

    def read(self, buffer: Buffer, blocks: Mapping[Key, Any], n: int) -> np.ndarray[Any, Any]:
        stored = view(buffer, blocks, n)
        if buffer.dtype == "bfloat16":
            return bfloat16_values(stored)
        return stored.astype(np.float32 if buffer.dtype == "float16" else stored.dtype)

    def executor(self, plan: Plan) -> Executor:
        return CpuExecutor(plan) if self.name == "cpu" else TritonExecutor(plan, generate(plan), self.name)


class CudaDevice:
    """A CUDA card through PyTorch's allocator and Triton's launcher."""

    def __init__(self) -> None:
        self.name = "cuda"
        self.target = cuda_target()
        self._memory = CudaMemory()

    def allocate(self, nbytes: int) -> Any:
        return self._memory.allocate(nbytes)

    def write(self, buffer: Buffer, blocks: Mapping[Key, Any], n: int, array: np.ndarray[Any, Any]) -> None:
        self._memory.write(blocks[block_key(buffer)], buffer, n, array)

    def read(self, buffer: Buffer, blocks: Mapping[Key, Any], n: int) -> np.ndarray[Any, Any]:
        return self._memory.read(blocks[block_key(buffer)], buffer, n)

    def executor(self, plan: Plan) -> Executor:
        return TritonExecutor(plan, generate(plan), self.name)


def open_device(name: str, dtype: str) -> Device:
    """The device of that name; ``auto`` is cuda where there is a card, else cpu.

    Raises:
        UsageError: unknown name, no card, or a dtype the device has no kernels for.
    """
    if name not in DEVICES:
        raise UsageError(f"unknown device {name!r}; there are {', '.join(DEVICES)}")
    if name == "auto":
        name = "cuda" if dtype != "float64" and cuda_available() else "cpu"
    if dtype == "float64" and name != "cpu":
        raise UsageError(f"float64 runs on device cpu only, not on {name}")
    return CudaDevice() if name == "cuda" else HostDevice(name)
