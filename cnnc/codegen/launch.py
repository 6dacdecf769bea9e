"""The launch table: which kernel runs for a step, with which arguments, on how many programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cnnc.ir.plan import Buffer, Plan
from cnnc.ir.size import Offset, Size


@dataclass(frozen=True)
class Pointer:
    """The address of a buffer's pixel (0, 0) of image 0 (past the halo)."""

    buffer: int


@dataclass(frozen=True)
class Descriptor:
    """A tensor descriptor (TMA): blocks of this shape out of a buffer, which begins where a pointer to it does.

    ``shape`` and ``strides`` (in elements, the last one 1) are those of a view of the buffer, outermost axis first.
    Elements outside the shape are loaded as zeros.
    """

    buffer: int
    shape: tuple[Size, ...]
    strides: tuple[Size, ...]
    block: tuple[int, ...]


@dataclass(frozen=True)
class Integer:
    """An integer that depends on N: the batch itself (32 bits), a stride in elements (64 bits).

    ``hint`` says whether divisibility by 16 is worth compiling for: it is for strides and channels, whose
    multiples are addresses, and not for image sizes, where it would only compile a kernel twice.
    """

    value: Size
    bits: int = 32
    hint: bool = True


@dataclass(frozen=True)
class Runtime:
    """A number given at each run, by its name in ``runtime.scalars.Scalars``: ``seed``, ``step``, ``lr``, ..."""

    name: str


RUNTIME_TYPES = {"seed": "i64", "step": "i32"}  # all others are fp32
POINTER_TYPES = {
    "float64": "*fp64",
    "float32": "*fp32",
    "bfloat16": "*bf16",
    "float16": "*fp16",
    "int32": "*i32",
    "uint8": "*u8",
}
DESCRIPTOR = "tensordesc"  # how the type of every descriptor begins

Argument = Pointer | Descriptor | Integer | Runtime


@dataclass(frozen=True)
class Programs:
    """Programs along one grid axis: ``ceil(rows(N) / block) * times``."""

    rows: Size
    block: int = 1
    times: int = 1

    def at(self, n: int) -> int:
        return -(-self.rows.at(n) // self.block) * self.times


@dataclass(frozen=True)
class Launch:
    """One kernel launch of one step.

    ``arguments`` pairs the kernel's runtime parameters, by name and in order, with their sources;
    ``constants`` are its ``tl.constexpr`` parameters. ``bytes`` counts each operand once, read or
    written; ``flops`` is twice the multiply-adds.
    """

    kernel: str
    arguments: tuple[tuple[str, Argument], ...]
    constants: Mapping[str, int | float | bool | str]
    grid: tuple[Programs, ...]
    warps: int
    stages: int
    step: str
    layers: tuple[str, ...]
    bytes: Size
    flops: Size


@dataclass(frozen=True)
class LaunchTable:
    """Launches of one schedule, by step name, in order (a step may take several)."""

    low: int
    high: int | None
    prepare: Mapping[str, tuple[Launch, ...]]
    steps: Mapping[str, tuple[Launch, ...]]


@dataclass(frozen=True)
class Module:
    """A generated module: its Python source and the launch table of each schedule of its plan."""

    plan: Plan
    source: str
    tables: tuple[LaunchTable, ...]


def argument_type(argument: Argument, buffers: Mapping[int, Buffer]) -> str:
    """Triton's name of a runtime argument's type: ``*bf16``, ``tensordesc<bf16[128, 64]>``, ``i32``, ``fp32``."""
    if isinstance(argument, Pointer):
        return POINTER_TYPES[buffers[argument.buffer].dtype]
    if isinstance(argument, Descriptor):
        block = ", ".join(map(str, argument.block))
        return f"{DESCRIPTOR}<{POINTER_TYPES[buffers[argument.buffer].dtype][1:]}[{block}]>"
    if isinstance(argument, Integer):
        return f"i{argument.bits}"
    return RUNTIME_TYPES.get(argument.name, "fp32")


def divisible_by_16(argument: Argument, buffers: Mapping[int, Buffer]) -> bool:
    """Whether the compiler may assume it at every N: addresses in bytes, strides in elements, by their terms.

    Memory is aligned, but a slice of channels begins anywhere inside it.
    """
    if isinstance(argument, Pointer):
        buffer = buffers[argument.buffer]
        value: Offset = buffer.offset + buffer.origin.scaled(buffer.item_bytes)
    elif isinstance(argument, Integer) and argument.hint:
        value = argument.value
    else:
        return False
    return value.multiple_of(16)
