"""The loop nests of kernels: what their rows, columns and sums are, whatever the tile."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from cnnc.ir import ops
from cnnc.ir.plan import Tile
from cnnc.ir.types import TensorType

Types = tuple[TensorType, ...]

ALIGNED = 16  # Triton knows of an integer at most that it is a multiple of 16
WGRADS = (ops.ConvWgrad, ops.LinearWgrad)
MATRIX_OPS = (ops.Conv, ops.ConvDgrad, ops.Linear, ops.LinearDgrad, *WGRADS)
# Channel vectors summed over rows, and how many such sums each keeps.
ROW_SUMS: dict[type[ops.Op], int] = {ops.BatchNormStats: 3, ops.BatchNormReduce: 2, ops.ChannelSum: 1}
ROWWISE = (ops.Softmax, ops.SoftmaxGrad, ops.CrossEntropy, ops.Rbf, ops.RbfGrad)
POOLS = (ops.MaxPool, ops.AvgPool, ops.SumPool)
# Parts whose results are no tile of the kernel: sums over its rows, or slices of what the part before them gives.
NO_TILE = (*ROW_SUMS, ops.BatchNormUpdate, ops.Split)


@dataclass(frozen=True)
class Product:
    """A matrix product [rows, depth] x [depth, columns]; ``unit`` channels lie side by side along one tap.

    ``aligned`` says whether both operands' channels come in multiples of ALIGNED, so that they load in vectors.
    """

    rows: int
    columns: int
    depth: int
    unit: int
    aligned: bool = True


def power_of_two(count: int) -> int:
    """The least power of two that is at least ``count``."""
    return 1 << max(0, count - 1).bit_length()


def anchor_of(op: ops.Op, operands: Types, results: Types) -> tuple[ops.Op, Types, Types]:
    """The op that shapes a step's kernel, with its own operand and result types."""
    if not isinstance(op, ops.Fused):
        return op, operands, results
    values = op.value_types(operands)
    inputs = tuple(values[i] for i in op.parts[op.main].operands)
    return op.anchor, inputs, op.anchor.infer(*inputs)


def product_of(op: ops.Op, operands: Types, results: Types, n: int) -> Product:
    """The loop nest of a matrix op for a batch of n, for one group."""
    first, second = operands
    product = _plain_product(op, operands, results, n)
    channels = (first.shape[-1], second.shape[-1], product.unit, product.columns)
    return replace(product, aligned=all(count % ALIGNED == 0 for count in channels))


def _plain_product(op: ops.Op, operands: Types, results: Types, n: int) -> Product:
    first, second = operands
    pixels = math.prod(first.shape[:-1])
    if isinstance(op, ops.Conv):
        rows = math.prod(results[0].shape[:2]) * n
        return Product(rows, second.shape[0] // op.groups, math.prod(second.shape[1:]), second.shape[3])
    if isinstance(op, ops.ConvDgrad):
        filters = second.shape[0] // op.groups
        return Product(math.prod(op.image) * n, second.shape[3], filters * op.window.taps, filters)
    if isinstance(op, ops.ConvWgrad):
        channels = second.shape[2] // op.groups
        return Product(first.shape[2] // op.groups, channels * op.window.taps, pixels * n, channels)
    if isinstance(op, ops.LinearWgrad):
        return Product(first.shape[-1], second.shape[-1], pixels * n, second.shape[-1])
    columns = second.shape[0] if isinstance(op, ops.Linear) else second.shape[1]
    depth = first.shape[-1]
    return Product(pixels * n, columns, depth, depth)


def tile_shape(op: ops.Op, operands: Types) -> tuple[int, ...]:
    """Shape of the value that a kernel's programs hold tiles of: the last part's that is one, or what is summed."""
    parts, values = body_of(op, operands)
    for part in reversed(parts):
        if type(part.op) not in NO_TILE:
            return part.op.infer(*(values[i] for i in part.operands))[0].shape
    return values[parts[0].operands[0]].shape


def body_of(op: ops.Op, operands: Types) -> tuple[tuple[ops.Part, ...], Types]:
    """An op's parts and the types of their values; a plain op is its own part."""
    if isinstance(op, ops.Fused):
        return op.parts, op.value_types(operands)
    return (ops.Part("", op, tuple(range(len(operands)))),), (*operands, *op.infer(*operands))


def sum_channels(op: ops.Op, operands: Types) -> int:
    """Channels of what a step sums over rows; 0 if it sums nothing."""
    parts = op.parts if isinstance(op, ops.Fused) else (ops.Part("", op, tuple(range(len(operands)))),)
    types = op.value_types(operands) if isinstance(op, ops.Fused) else operands
    return next((types[part.operands[0]].shape[-1] for part in parts if type(part.op) in ROW_SUMS), 0)


def sums_of(op: ops.Op) -> int:
    """Sums over rows that a step keeps for each channel."""
    parts = [part.op for part in op.parts] if isinstance(op, ops.Fused) else [op]
    return sum(ROW_SUMS.get(type(part), 0) for part in parts)


def gathers(op: ops.Op, product: Product, tile: Tile) -> bool:
    """Whether one step of a conv kernel spans several taps: its channels are fewer than a block holds."""
    block = tile.n if isinstance(op, WGRADS) else tile.k
    return block > power_of_two(product.unit) * phases(op)


def phases(op: ops.Op) -> int:
    """Into how many kinds a conv's gradient parts the pixels of its input: those of one kind share their taps.

    A strided window's taps fall apart by phase; with dilation they may not, and are masked.
    """
    if not isinstance(op, ops.ConvDgrad) or op.window.dilation != (1, 1):
        return 1
    return math.prod(op.window.stride)
