"""What an emitter sees of one step: its parts, buffers, tile, and where its launches go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cnnc.codegen.kernel import Kernel
from cnnc.codegen.launch import Launch, Programs
from cnnc.codegen.library import Library
from cnnc.ir import cost, ops
from cnnc.ir.ops import Op, Part
from cnnc.ir.plan import Buffer, Step, Tile
from cnnc.ir.size import Size
from cnnc.ir.types import Element, TensorType
from cnnc.passes.tiles import Product, gathers, product_of

DEFAULT_TILE = Tile(1, 1024, 1)  # of kernels that run over flat arrays


@dataclass
class Context:
    """One step to emit. ``launches`` grows as the emitter adds kernels."""

    step: Step
    buffers: Mapping[int, Buffer]
    library: Library
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
    def anchor(self) -> Op:
        return self.parts[0].op

    @property
    def operands(self) -> tuple[Buffer, ...]:
        """The anchor's operands."""
        return tuple(self.inputs[i] for i in self.parts[0].operands)

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

    def product(self) -> Product:
        """The loop nest of a matrix anchor."""
        types = tuple(tensor_type(buffer) for buffer in self.operands)
        return product_of(self.anchor, types, self.anchor_types, self.batch)

    @property
    def depthwise(self) -> bool:
        """Whether a convolution filters each channel on its own."""
        return ops.is_depthwise(self.anchor, self.operands[1].shape)

    @property
    def gathers(self) -> bool:
        """Whether one step of the matrix anchor spans several taps."""
        return gathers(self.anchor, self.product(), self.tile)

    @property
    def tile(self) -> Tile:
        return self.step.tile or DEFAULT_TILE

    @property
    def workspace(self) -> Buffer:
        if self.step.workspace is None:
            raise ValueError(f"step {self.step.name} is split but has no workspace")
        return self.buffers[self.step.workspace]

    @property
    def flops(self) -> Size:
        """Twice the multiply-adds of the step."""
        types = tuple(tensor_type(buffer) for buffer in self.inputs)
        return Size(a=2 * cost.macs(self.step.op, types, self.step.op.infer(*types)))

    def read(self) -> Size:
        """Bytes of the step's operands, each buffer once."""
        return total(self.inputs)

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
        name = self.library.add(kernel)
        nbytes = self.read() + self.written() if nbytes is None else nbytes
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
