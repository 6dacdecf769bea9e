"""The Plan: the contract between compiler and runtimes.

A Plan is an ordered list of steps over buffers whose place, axis order, strides, halo and dtype are
explicit. Sizes and offsets are functions of the batch size N, so that one Plan serves every batch in
its bucket; parameters lie in arenas shared by all buckets and variants.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from cnnc.ir.ops import Op
from cnnc.ir.params import Arena
from cnnc.ir.size import Offset, Size
from cnnc.ir.types import ITEM_BYTES
from cnnc.source import Span

ALIGN_BYTES = 128  # every buffer starts at a multiple of this


class Space(enum.Enum):
    """Where a buffer lives. All but WORK and the two I/O spaces persist between runs."""

    PARAMS = "params"  # master parameters, ACC
    SHADOW = "shadow"  # their copy in a 16-bit compute dtype, same element offsets
    GRADS = "grads"  # gradients, ACC, same element offsets
    MOMENTUM = "momentum"  # the optimiser's running sums, ACC, same element offsets
    STATE = "state"  # running statistics, ACC
    CONST = "const"  # computed from parameters by the prepare steps (folded weights)
    INPUT = "input"  # given by the caller, one array each, dense in ``axes`` order
    OUTPUT = "output"  # handed to the caller, likewise
    WORK = "work"  # the arena of one run: activations, gradients, workspaces
    COUNTERS = "counters"  # zero between steps, which all share them: how many programs of a kernel have finished


@dataclass(frozen=True)
class Buffer:
    """One array. ``shape`` is per image in logical order (H, W, C), (H, W), (C,) or as a parameter is stored.

    ``axes`` is the storage order, outermost first, a permutation of logical axis letters: images
    ``NHWC`` or ``HWNC``, label maps ``NHW``, vectors ``NC``, labels ``N``, unbatched arrays digits ``0123``.
    ``halo`` is zero padding kept around an image (top, bottom, left, right); ``channels`` is the
    stride of a pixel in elements, >= the logical channels. A buffer may lie ``within`` another, whose offset, size
    and halo it has: as another shape, or as the channels from ``first`` on. All of a memory's buffers but the one it
    is known by are a ``view``: the caller's array is the buffer of its name that is none.
    """

    id: int
    name: str
    space: Space
    dtype: str
    shape: tuple[int, ...]
    batched: bool
    axes: str
    offset: Offset  # bytes from the start of its space
    size: Size  # bytes, a multiple of ALIGN_BYTES at every N
    halo: tuple[int, int, int, int] = (0, 0, 0, 0)
    channels: int = 0
    first: int = 0
    within: int | None = None
    view: bool = False

    @property
    def logical_axes(self) -> str:
        if not self.batched:
            return "".join(str(axis) for axis in range(len(self.shape)))
        return "N" + {0: "", 1: "C", 2: "HW", 3: "HWC"}[len(self.shape)]

    @property
    def strides(self) -> tuple[Size, ...]:
        """Elements between neighbours along each logical axis (N first where batched)."""
        extents = self._stored_extents()
        result: dict[str, Size] = {}
        step = Size(c=1)
        for letter in reversed(self.axes):
            result[letter] = step
            if letter == "N":
                step = Size(a=step.c)  # the batch is stored once, so what lies outside it is linear in N
            else:
                step = step.scaled(extents[letter])
        return tuple(result[letter] for letter in self.logical_axes)

    @property
    def elements(self) -> Size:
        """Stored elements, halo and channel padding included."""
        count = 1
        for letter, extent in self._stored_extents().items():
            if letter != "N":
                count *= extent
        return Size(a=count) if self.batched else Size(c=count)

    @property
    def origin(self) -> Size:
        """Elements from ``offset`` to this buffer's first channel of pixel (0, 0) of image 0, past the halo."""
        if not any(self.halo):
            return Size(c=self.first)
        strides = dict(zip(self.logical_axes, self.strides, strict=True))
        return strides["H"].scaled(self.halo[0]) + strides["W"].scaled(self.halo[2]) + Size(c=self.first)

    @property
    def is_slice(self) -> bool:
        """Whether a pixel (or vector) has more channels than this buffer's."""
        return "C" in self.axes and self.channels > self.shape[-1]

    def _stored_extents(self) -> dict[str, int]:
        """Extent of each stored axis but the batch."""
        logical = self.logical_axes.replace("N", "") if self.batched else self.logical_axes
        extents = dict(zip(logical, self.shape, strict=True))
        if "H" in extents:
            extents["H"] += self.halo[0] + self.halo[1]
            extents["W"] += self.halo[2] + self.halo[3]
        if "C" in extents:
            extents["C"] = max(self.channels, extents["C"])
        return extents

    @property
    def item_bytes(self) -> int:
        return ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class Tile:
    """How a GPU kernel of one step is cut: block sizes, split of the reduction, warps and stages.

    With ``descriptors`` its matrix products load their factors in blocks, through tensor descriptors.
    """

    m: int
    n: int
    k: int
    splits: int = 1
    warps: int = 4
    stages: int = 3
    descriptors: bool = False


@dataclass(frozen=True)
class Step:
    """One fused group: an op, the buffers it reads by operand slot and writes by output slot.

    An output nobody reads has no buffer (None) and is not computed. ``workspace`` holds partial
    results of programs that share a sum; ``counters`` tell which of them is the last and joins these.
    """

    name: str
    op: Op
    inputs: tuple[int, ...]
    outputs: tuple[int | None, ...]
    layers: tuple[str, ...]
    tile: Tile | None = None
    workspace: int | None = None
    counters: int | None = None
    span: Span | None = None


@dataclass(frozen=True)
class Schedule:
    """The steps and buffers for batch sizes ``low <= N <= high`` (no upper end if None)."""

    low: int
    high: int | None
    buffers: tuple[Buffer, ...]
    prepare: tuple[Step, ...]  # run again whenever parameters or running statistics change
    steps: tuple[Step, ...]
    work: Offset  # bytes of the WORK arena
    const: Size  # bytes of the CONST arena

    def holds(self, n: int) -> bool:
        return self.low <= n and (self.high is None or n <= self.high)

    def named(self, space: Space) -> dict[str, Buffer]:
        """Buffers of one space by name, in the shape that the caller knows: views left out."""
        return {buffer.name: buffer for buffer in self.buffers if buffer.space is space and not buffer.view}


@dataclass(frozen=True)
class Plan:
    """One variant of one model for one target.

    ``variant`` is ``infer`` (inference), ``forward`` (training mode, no gradients), ``loss``
    (loss and gradients), ``vjp`` (gradients from a given output gradient, with the input's),
    ``update`` (one optimiser step over the whole arenas) or ``cast`` (PARAMS to SHADOW).
    INPUT buffers are named ``input``, ``target`` (labels) and ``doutput``; OUTPUT buffers ``output``,
    ``loss``, ``dinput``; GRADS and STATE buffers by parameter.
    """

    model: str
    variant: str
    target: str
    dtype: str
    params: Arena
    state: Arena
    schedules: tuple[Schedule, ...]

    def schedule(self, n: int) -> Schedule:
        """The schedule whose bucket holds N."""
        for schedule in self.schedules:
            if schedule.holds(n):
                return schedule
        raise ValueError(f"no schedule for a batch of {n}")
