"""What an emitter sees of one step: its parts, buffers, tile, and where its launches go."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

from cnnc.codegen.kernel import Kernel
from cnnc.codegen.kernel_texts import KernelTexts
from cnnc.codegen.launch import Launch, Programs
from cnnc.ir import ops
from cnnc.ir.ops import Op, Part
from cnnc.ir.plan import Buffer, Step, Tile
from cnnc.ir.roofline import SPREADING, Work, work_of
from cnnc.ir.size import Size
from cnnc.ir.types import Element, TensorType
from cnnc.passes.nests import MATRIX_OPS, Product, gathers, phases, product_of, tile_shape

DEFAULT_TILE = Tile(1, 1024, 1)  # of kernels that run over flat arrays


@dataclass
class Context:
    """One step to emit. ``launches`` grows as the emitter adds kernels."""

    step: Step
    buffers: Mapping[int, Buffer]
    texts: KernelTexts
    interpreted: bool
    batch: int  # a representative N of the bucket
    launches: list[Launch] = field(default_factory=list)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The step's ops in order: one, or those of a fused group."""
        op = self.step.op
        if isinstance(op, ops.Fused):
            return op.parts
        return (Part(self.step.name, op, tuple(range(len(self.step.inputs)))),)

    @property
    def results(self) -> tuple[int, ...]:
        """Numbers of the values that leave the step, by output slot."""
        op = self.step.op
        if isinstance(op, ops.Fused):
            return op.results
        return tuple(len(self.step.inputs) + slot for slot in range(len(self.step.outputs)))

    @property
    def main(self) -> int:
        """The place of the part that shapes the kernel."""
        return self.step.op.main if isinstance(self.step.op, ops.Fused) else 0

    @property
    def anchor(self) -> Op:
        return self.parts[self.main].op

    @cached_property
    def value_types(self) -> tuple[TensorType, ...]:
        """Types of the group's values by number, its operands first."""
        types = tuple(tensor_type(buffer) for buffer in self.inputs)
        op = self.step.op
        return op.value_types(types) if isinstance(op, ops.Fused) else (*types, *op.infer(*types))

    @property
    def operands(self) -> tuple[Buffer, ...]:
        """The operands of an anchor that has no prologue."""
        return tuple(self.inputs[i] for i in self.parts[self.main].operands)

    @property
    def inputs(self) -> tuple[Buffer, ...]:
        return tuple(self.buffers[i] for i in self.step.inputs)

    @property
    def outputs(self) -> tuple[Buffer | None, ...]:
        return tuple(None if i is None else self.buffers[i] for i in self.step.outputs)

    @property
    def anchor_types(self) -> tuple[TensorType, ...]:
        """Types of the anchor's results."""
        return self.anchor.infer(*(tensor_type(buffer) for buffer in self.operands))

    def product(self, index: int | None = None) -> Product:
        """The loop nest of a matrix part, the anchor unless another is named."""
        part = self.parts[self.main if index is None else index]
        types = tuple(self.value_types[i] for i in part.operands)
        return product_of(part.op, types, part.op.infer(*types), self.batch)

    @property
    def depthwise(self) -> bool:
        """Whether the anchor is a convolution that filters each channel on its own."""
        part = self.parts[self.main]
        return len(part.operands) > 1 and ops.is_depthwise(part.op, self.value_types[part.operands[1]].shape)

    @property
    def is_product(self) -> bool:
        """Whether the anchor is a matrix product."""
        return isinstance(self.anchor, MATRIX_OPS) and not self.depthwise

    def gathers(self, index: int) -> bool:
        """Whether one step of a matrix part spans several taps."""
        return gathers(self.parts[index].op, self.product(index), self.tile)

    @property
    def phased(self) -> bool:
        """Whether programs of the anchor each take the pixels of one phase of the stride, which share their taps.

        Where a tile has one pixel, its rows share their taps anyway.
        """
        one_pixel = self.tile.descriptors
        return self.is_product and phases(self.anchor) > 1 and not one_pixel and not self.gathers(self.main)

    @property
    def rows_of_dgrad(self) -> bool:
        """Whether the tile's pixels are those of a convolution's or pool's input."""
        return isinstance(self.anchor, SPREADING)

    @property
    def tile_shape(self) -> tuple[int, ...]:
        """Shape of the value that a program holds a tile of."""
        return tile_shape(self.step.op, tuple(tensor_type(buffer) for buffer in self.inputs))

    @property
    def first_column(self) -> str:
        """The condition under which a program has the first of the tiles that share its rows, as text."""
        return "pid % column_tiles == 0"

    @property
    def counters(self) -> Buffer:
        if self.step.counters is None:
            raise ValueError(f"step {self.step.name} is split but has no counters")
        return self.buffers[self.step.counters]

    @property
    def tile(self) -> Tile:
        return self.step.tile or DEFAULT_TILE

    @property
    def workspace(self) -> Buffer:
        if self.step.workspace is None:
            raise ValueError(f"step {self.step.name} is split but has no workspace")
        return self.buffers[self.step.workspace]

    @property
    def work(self) -> Work:
        """The step's multiply-adds, and how much of each operand it reads."""
        types = tuple(tensor_type(buffer) for buffer in self.inputs)
        return work_of(self.step.op, types, self.step.op.infer(*types))

    @property
    def flops(self) -> Size:
        """Twice the multiply-adds of the step."""
        return Size(a=2 * self.work.macs)

    def read(self) -> Size:
        """Bytes of the step's operands, each buffer once; where a stride leaves gaps, without them."""
        shares: dict[int, Fraction] = {}
        for buffer, share in zip(self.inputs, self.work.shares, strict=True):
            shares[buffer.id] = max(share, shares.get(buffer.id, share))
        size = Size()
        for index, share in shares.items():
            whole = logical_bytes(self.buffers[index])
            size += Size(a=math.ceil(whole.a * share), c=math.ceil(whole.c * share))
        return size

    def joined(self) -> Size:
        """Bytes of partial sums that a kernel's programs leave and its last ones read, with what counts these."""
        if self.step.counters is None:
            return Size()
        return total((self.workspace, self.counters)).scaled(2)

    def written(self) -> Size:
        """Bytes of the step's results."""
        return total(buffer for buffer in self.outputs if buffer is not None)

    def add(
        self,
        kernel: Kernel,
        grid: tuple[Programs, ...],
        nbytes: Size | None = None,
        flops: Size | None = None,
        warps: int | None = None,
    ) -> None:
        """Put a kernel into the module and its launch into the step."""
        name = self.texts.add(kernel)
        nbytes = self.read() + self.written() + self.joined() if nbytes is None else nbytes
        flops = self.flops if flops is None else flops
        tile = self.tile
        layers = self.step.layers
        launch = kernel.launch(name, grid, warps or tile.warps, tile.stages, self.step.name, layers, nbytes, flops)
        self.launches.append(launch)


_ELEMENTS = {"int32": Element.LABEL, "uint8": Element.INDEX}


def tensor_type(buffer: Buffer) -> TensorType:
    """The type that shape rules know a buffer by."""
    return TensorType(buffer.shape, buffer.batched, _ELEMENTS.get(buffer.dtype, Element.REAL))


def logical_bytes(buffer: Buffer) -> Size:
    """Bytes of a buffer's elements, without halo and padding."""
    count = tensor_type(buffer).count * buffer.item_bytes
    return Size(a=count) if buffer.batched else Size(c=count)


def total(buffers: Iterable[Buffer]) -> Size:
    """Bytes of several buffers, each counted once."""
    unique = {buffer.id: buffer for buffer in buffers}
    size = Size()
    for buffer in unique.values():
        size += logical_bytes(buffer)
    return size
