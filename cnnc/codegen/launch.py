"""The launch table: which kernel runs for a step, with which arguments, on how many programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Union

from cnnc.ir.plan import Plan
from cnnc.ir.size import Size


@dataclass(frozen=True)
class Pointer:
    """The address of a buffer's pixel (0, 0) of image 0 (past the halo)."""

    buffer: int


@dataclass(frozen=True)
class Integer:
    """An integer that depends on N: the batch itself, a stride in elements."""

    value: Size


@dataclass(frozen=True)
class Runtime:
    """A number given at each run, by its name in ``runtime.scalars.Scalars``: ``seed``, ``step``, ``lr``, ..."""

    name: str


Argument = Union[Pointer, Integer, Runtime]


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
