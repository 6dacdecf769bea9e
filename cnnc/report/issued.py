"""Bytes that a kernel's loads and stores issue: what its tiles ask for, caches and masks aside.

A product loads its left factor once for each block of columns and its right one once for each block of rows; a window
loads every tap; tiles that reach beyond an extent count whole. The rules follow the emitters in ``codegen``: each part
of a body says how many elements of its operands it evaluates for one of its result, from the tile alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from cnnc.ir import ops
from cnnc.ir.ops import Part
from cnnc.ir.plan import Buffer, Step, Tile
from cnnc.ir.types import TensorType
from cnnc.passes.descriptors import is_pixelwise
from cnnc.passes.nests import MATRIX_OPS, ROW_SUMS, ROWWISE, WGRADS, gathers, phases, product_of

WINDOWS = (ops.MaxPool, ops.AvgPool, ops.SumPool)
SPREADS = (ops.MaxPoolGrad, ops.AvgPoolGrad, ops.SumPoolGrad)


def issued_bytes(step: Step, buffers: Mapping[int, Buffer], types: Mapping[int, TensorType], n: int) -> int | None:
    """Bytes issued by a step's tiled kernel for a batch of n; None if it has no tile and moves each element once.

    ``types`` are those of the buffers, by id.
    """
    if step.tile is None:
        return None
    return _Issue(step, buffers, types, step.tile, n).total()


class _Issue:
    def __init__(
        self, step: Step, buffers: Mapping[int, Buffer], types: Mapping[int, TensorType], tile: Tile, n: int
    ) -> None:
        self.step, self.tile, self.n = step, tile, n
        self.buffers = buffers
        op, operands = step.op, [types[i] for i in step.inputs]
        plain = (Part(step.name, op, tuple(range(len(operands)))),)
        self.parts, self.main = (op.parts, op.main) if isinstance(op, ops.Fused) else (plain, 0)
        self.values = list(operands)
        self.made: list[range] = []
        for part in self.parts:
            self.values.extend(part.op.infer(*(self.values[i] for i in part.operands)))
            self.made.append(range(self.made[-1].stop if self.made else len(operands), len(self.values)))
        self.results = op.results if isinstance(op, ops.Fused) else tuple(self.made[0])
        self.groups: int = getattr(self.parts[self.main].op, "groups", 1)

    def total(self) -> int:
        stored = sum(self._lanes(number) * self.buffers[buffer].item_bytes for number, buffer in self._stored())
        lanes = [0.0] * len(self.values)  # elements of each value that are loaded or computed
        for number, _ in self._stored():
            lanes[number] = self._lanes(number)
        for part, outputs in reversed(list(zip(self.parts, self.made, strict=True))):
            own = max(lanes[i] for i in outputs)
            for slot, i in enumerate(part.operands):
                lanes[i] = max(lanes[i], self._evaluated(part, slot, self.values[outputs[0]], own))
        loaded = sum(lanes[number] * self.buffers[buffer].item_bytes for number, buffer in enumerate(self.step.inputs))
        return math.ceil(loaded) + stored + self._joined()

    def _joined(self) -> int:
        """Partial sums that programs leave and the last ones read, with their counters."""
        inner = (self.step.workspace, self.step.counters)
        return sum(
            2 * self.buffers[i].size.at(self.n) for i in inner if i is not None and self.step.counters is not None
        )

    def _stored(self) -> list[tuple[int, int]]:
        """Values that leave, each with its buffer."""
        return [(i, b) for i, b in zip(self.results, self.step.outputs, strict=True) if b is not None]

    # -- elements of tiles ------------------------------------------------------------------------

    def _lanes(self, number: int) -> int:
        """Elements of all tiles that cover a value."""
        kind = self.values[number]
        if not kind.batched:
            return self._sums(kind)
        if isinstance(self.parts[self.main].op, ops.CrossEntropy) and number == self.made[self.main][0]:
            return _up(kind.count * self.n, self.tile.m)
        channels = kind.shape[-1]
        rows = self._rows(math.prod(kind.shape[:-1]))
        groups = self.groups if isinstance(self.parts[self.main].op, ops.Conv | ops.ConvDgrad) else 1
        groups = groups if channels % groups == 0 and not self._depthwise(self.parts[self.main]) else 1
        return rows * groups * _up(channels // groups, self.tile.n)

    def _rows(self, pixels: int) -> int:
        """Rows of all tiles over so many pixels; a tile's images may be those at one pixel."""
        if self.tile.descriptors and is_pixelwise(self.step.op):
            return pixels * _up(self.n, self.tile.m)
        return _up(pixels * self.n, self.tile.m)

    def _sums(self, kind: TensorType) -> int:
        """Elements that a sum over rows stores: those of its result, or of every split's."""
        splits = self.tile.splits if isinstance(self.parts[self.main].op, WGRADS) else 1
        return kind.count * splits

    def _evaluated(self, part: Part, slot: int, result: TensorType, own: float) -> float:
        """Elements of an operand that are evaluated where ``own`` elements of the result are."""
        op, kind = part.op, self.values[part.operands[slot]]
        if isinstance(op, WGRADS):
            return self._of_wgrad(part, slot)
        if isinstance(op, ROWWISE):
            return self._of_rows(op, slot, kind)
        if isinstance(op, ops.BatchSum):
            return _up(self.n, self.tile.m) * _up(kind.count, self.tile.n)
        if type(op) in ROW_SUMS:
            rows, columns = _up(math.prod(kind.shape[:-1]) * self.n, self.tile.m), _up(kind.shape[-1], self.tile.n)
            return rows * columns if kind.batched else own
        if isinstance(op, MATRIX_OPS) and not self._depthwise(part):
            return own * self._depth(part, result) / (self.tile.n if slot == 0 else self.tile.m)
        if not kind.batched and not isinstance(op, ops.PositionBias):
            taps = op.window.taps if isinstance(op, ops.Conv | ops.ConvDgrad) else 1
            return own * taps / self.tile.m if result.batched else kind.count
        return own * self._repeats(part, slot, kind, result)

    def _depth(self, part: Part, result: TensorType) -> float:
        """Steps of a product's loop, times their width."""
        types = tuple(self.values[i] for i in part.operands)
        product = product_of(part.op, types, (result,), self.n)
        if gathers(part.op, product, self.tile):
            return _up(product.depth, self.tile.k)
        return product.depth // product.unit * _up(product.unit, self.tile.k) / phases(part.op)

    def _of_wgrad(self, part: Part, slot: int) -> float:
        """Both factors are walked over once for each tile of the result."""
        types = tuple(self.values[i] for i in part.operands)
        (result,) = part.op.infer(*types)
        if self._depthwise(part):
            dy = types[0]
            rows = _up(math.prod(dy.shape[:-1]) * self.n, self.tile.m)
            taps = math.prod(result.shape[1:])
            programs = _up(dy.shape[-1], self.tile.n) * -(-taps // self.tile.k)
            return rows * programs * (1 if slot == 0 else self.tile.k)
        product = product_of(part.op, types, (result,), self.n)
        taps = 1 if gathers(part.op, product, self.tile) else product.columns // product.unit
        filters = -(-product.rows // self.tile.m)
        columns = taps * -(-product.columns // taps // self.tile.n)
        rows = _up(product.depth, self.tile.k * self.tile.splits)
        return filters * columns * self.groups * rows * (self.tile.m if slot == 0 else self.tile.n)

    def _of_rows(self, op: ops.Op, slot: int, kind: TensorType) -> int:
        """Kernels that take a whole row of channels at once: for its sums, and again for the result."""
        x = self.values[0]
        rows = _up(math.prod(x.shape[:-1]) * self.n, self.tile.m)
        if isinstance(op, ops.Rbf):
            codes, channels = self.values[1].shape
            return codes * _up(channels, self.tile.n) * (rows if slot == 0 else rows // self.tile.m)
        if isinstance(op, ops.RbfGrad):
            codes, channels = self.values[2].shape
            wide = _up(channels, self.tile.n)
            return (rows * codes * wide // self.tile.n, rows * wide, rows * codes * wide // self.tile.m)[slot]
        if isinstance(op, ops.CrossEntropy) and slot == 1:
            return rows
        again = 1 if isinstance(op, ops.CrossEntropy) and self.step.outputs[1] is None else 2
        return again * rows * _up(kind.shape[-1], self.tile.n)

    def _depthwise(self, part: Part) -> bool:
        return len(part.operands) > 1 and ops.is_depthwise(part.op, self.values[part.operands[1]].shape)

    def _repeats(self, part: Part, slot: int, kind: TensorType, result: TensorType) -> float:
        """How many elements of a batched operand one element of the result takes."""
        op = part.op
        if isinstance(op, (*WINDOWS, ops.Conv, ops.ConvDgrad)):
            return op.window.taps
        if isinstance(op, SPREADS):
            return math.prod(-(-k // s) for k, s in zip(op.window.extent, op.window.stride, strict=True))
        if isinstance(op, ops.GlobalAvgPool):
            return math.prod(kind.shape[:2])
        if isinstance(op, ops.Lrn) and part.operands[slot] < len(self.step.inputs):  # else it is in registers
            return op.n + 1
        if isinstance(op, ops.LrnGrad):
            return op.n if slot == 0 else op.n * (op.n + 1) + 1
        if isinstance(op, ops.Upsample):
            return 4 if op.mode == "bilinear" else 1
        if isinstance(op, ops.UpsampleGrad):
            return math.prod(f if op.mode == "nearest" else 2 * f - f % 2 for f in op.factor)
        if isinstance(op, ops.Concat | ops.Split):
            return kind.shape[-1] / result.shape[-1]
        if isinstance(op, ops.Maxout | ops.MaxoutGrad) and kind.shape == _wider(kind, result).shape:
            return op.pieces
        return 1


def _wider(a: TensorType, b: TensorType) -> TensorType:
    return a if a.shape[-1] >= b.shape[-1] else b


def _up(count: int, block: int) -> int:
    """The least multiple of a block that is at least ``count``."""
    return -(-count // block) * block
