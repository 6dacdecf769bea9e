"""Tile sizes of GPU kernels: one analytic rule per class of kernel, from the sizes of its loop nest.

Rows of a tile are (pixel, image) pairs, columns channels; ``k`` is the step of the summed axis. On a GPU a
few tiles serve everything, so that few kernels are compiled. In Triton's interpreter the cost is per
program and step, hardly per element, so that blocks there are as large as memory allows.
"""

from __future__ import annotations

import math
from dataclasses import replace

from cnnc.ir import ops
from cnnc.ir.plan import Buffer, Tile
from cnnc.ir.types import TensorType
from cnnc.passes.descriptor_tiles import MULTIPROCESSORS, load_of, product_tile, wgrad_tile
from cnnc.passes.nests import (
    ALIGNED,
    MATRIX_OPS,
    ROW_SUMS,
    ROWWISE,
    WGRADS,
    Product,
    anchor_of,
    phases,
    power_of_two,
    product_of,
    sums_of,
    tile_shape,
)
from cnnc.passes.room import computes_factors, holds_pixels, whole_pixels, with_factors, with_room
from cnnc.passes.shared_sums import wgrad_programs

Types = tuple[TensorType, ...]

INTERPRET = "interpret"
INTERPRET_ELEMENTS = 1 << 19  # largest block in the interpreter: its int64 addresses take 4 MB
INTERPRET_GATHER = 1 << 17  # elements of a strided dgrad above which its masked ones cost more than more programs
INTERPRET_SUM_ROWS = 64  # the interpreter adds a block's rows one by one; longer runs round too much in float32
MAX_SPLITS = 64
DEPTHWISE_TAPS = 8  # sums of a depthwise wgrad that one program keeps in registers


# Ops whose result has other channels than their first operand; a tile is one of the result.
CHANNEL_OPS = (
    ops.Concat,
    ops.ChannelSlice,
    ops.Split,
    ops.Maxout,
    ops.MaxoutGrad,
    ops.PadShortcut,
    ops.PadShortcutGrad,
)
WITHOUT_TILE = (
    ops.BatchNormCorrection,
    ops.SgdUpdate,
    ops.CastArena,
    ops.BatchMean,
    ops.BatchNormUpdate,
    ops.FoldScale,
    ops.FoldShift,
    ops.MaskWeight,
    ops.Binarize,
    ops.ConcatRows,
    ops.RowSlice,
    ops.Zeros,
)


def choose_tile(
    op: ops.Op,
    operands: Types,
    results: Types,
    n: int,
    target: str,
    dtype: str,
    *,
    aligned: bool = True,
    described: bool = False,
) -> Tile | None:
    """The tile of a step's kernel for a batch of about n; None where the kernel has no choice.

    ``target`` is ``interpret`` or a GPU (``sm_90``, ``gfx942``); ``dtype`` the compute dtype. Rows that are slices of
    longer ones may not be ``aligned`` whatever their own channels. ``described`` says that tensor descriptors load the
    factors of its products.
    """
    anchor, read, made = anchor_of(op, operands, results)
    if described:
        product = product_of(anchor, read, made, n)
        product = replace(product, aligned=product.aligned and aligned)
        # Factors computed from channels that come in no vectors leave no registers beside a block.
        if product.aligned or not load_of(op, operands).computed:
            return _described_tile(op, operands, product, n)
    rows = math.prod(tile_shape(op, operands)[:-1]) * n if isinstance(op, ops.Fused) else None
    tile = _anchor_tile(anchor, read, made, n, target, dtype, aligned, rows)
    if tile is None or not isinstance(op, ops.Fused) or rows is None or target == INTERPRET:
        return tile
    if holds_pixels(op):
        return whole_pixels(tile, anchor, tile_shape(op, operands)[-1])
    if isinstance(anchor, MATRIX_OPS):
        tile = with_room(tile, op, operands, aligned)
        if computes_factors(op, len(operands)):
            tile = with_factors(tile, target)
    if sums_of(op) and type(anchor) not in ROW_SUMS:
        if isinstance(anchor, MATRIX_OPS) and sum(type(part.op) in ROW_SUMS for part in op.parts) > 1:
            tile = replace(tile, m=min(64, tile.m))  # of two branches: each reads an image for its sums
        tile = _walking(tile, anchor, read, rows, target)
    return tile


def _described_tile(op: ops.Op, operands: Types, product: Product, n: int) -> Tile:
    """The tile of a product whose factors come in blocks, and among how many programs its sums are split."""
    anchor, read, _ = anchor_of(op, operands, op.infer(*operands))
    if isinstance(anchor, WGRADS):
        tile = wgrad_tile(op, operands, product.rows, product.unit, aligned=product.aligned)
        return replace(tile, splits=_splits(wgrad_programs(anchor, read, tile), product.depth, 8 * tile.k))
    pixels = math.prod(tile_shape(op, operands)[:-1])
    tile = product_tile(op, operands, pixels, n, product.columns, aligned=product.aligned)
    if not sums_of(op):
        return tile
    columns = -(-product.columns // tile.n)
    return replace(tile, splits=max(1, min(MULTIPROCESSORS // columns, pixels * -(-n // tile.m))))


def _anchor_tile(
    op: ops.Op,
    operands: Types,
    results: Types,
    n: int,
    target: str,
    dtype: str,
    aligned: bool,
    stored: int | None,
) -> Tile | None:
    """``stored`` rows leave a fused kernel: fewer than its product's where a pool follows that."""
    if isinstance(op, WITHOUT_TILE):
        return None
    depthwise = len(operands) > 1 and ops.is_depthwise(op, operands[1].shape)
    if isinstance(op, MATRIX_OPS) and not depthwise:
        product = product_of(op, operands, results, n)
        product = replace(product, aligned=product.aligned and aligned)
        if stored is not None and not isinstance(op, WGRADS):
            product = replace(product, rows=stored)
        if target == INTERPRET:
            return _interpreted_product(op, product)
        if isinstance(op, WGRADS):
            return _wgrad_tile(op, product, dtype)
        return _product_tile(op, product, dtype, target)
    rows = math.prod(results[0].shape[:-1]) * n if results[0].batched else math.prod(operands[0].shape[:-1]) * n
    channels = operands[0].shape[-1]
    if isinstance(op, ops.ConvWgrad):
        return _depthwise_wgrad_tile(op, rows, channels, target)
    if isinstance(op, CHANNEL_OPS) or depthwise:
        return _pointwise_tile(rows, results[0].shape[-1], target, aligned)
    if isinstance(op, ops.BatchSum):
        return _batch_sum_tile(operands[0].count, n, target)
    if type(op) in ROW_SUMS:
        return _sum_tile(rows, channels, target)
    if isinstance(op, ROWWISE):
        summed = operands[1] if isinstance(op, ops.RbfGrad) else operands[0]
        return _rowwise_tile(n * math.prod(operands[0].shape[:-1]), summed.shape[-1], target)
    return _pointwise_tile(rows, channels, target, aligned)


def slice_is_aligned(buffer: Buffer) -> bool:
    """Whether the rows of a slice of channels begin at multiples of ALIGNED, those of any other buffer aside."""
    aligned = buffer.channels % ALIGNED == 0 and buffer.first * buffer.item_bytes % ALIGNED == 0
    return aligned or not buffer.is_slice


def _interpreted_product(op: ops.Op, product: Product) -> Tile:
    n = min(power_of_two(product.columns), 512)
    k = min(power_of_two(product.depth), 4096 if isinstance(op, WGRADS) else 512, INTERPRET_ELEMENTS // n)
    rows, parts = product.rows, phases(op)
    if parts > 1 and (k <= power_of_two(product.unit) * parts or rows * product.unit > INTERPRET_GATHER):
        # A program of one phase and one tap at a time, where gathering would load mostly masked elements.
        rows, k = -(-rows // parts), min(k, power_of_two(product.unit))
    m = min(power_of_two(rows), INTERPRET_ELEMENTS // max(n, k))
    return Tile(m, n, k, warps=1, stages=1)


def _product_tile(op: ops.Op, product: Product, dtype: str, target: str) -> Tile:
    columns = max(16, min(64, power_of_two(product.columns)))
    if not product.aligned:
        # Elements are loaded one by one, each with an address of its own: registers limit the tile.
        return Tile(64, min(32, columns), 16 if dtype == "float32" else 32, warps=4, stages=2)
    if dtype == "float32":
        # Products without matrix units keep operands in registers, too: more threads share a wide tile.
        return Tile(64, columns, 16, warps=8 if columns == 64 else 4, stages=2)
    n = max(16, min(128, power_of_two(product.columns)))
    # A wide tile reuses more of what it loads, but only if enough programs are left to fill the chip.
    if n == 128 and product.rows // 128 * (product.columns // 128) < MULTIPROCESSORS:
        n = 64
    m = 128 if product.rows // 128 * max(1, product.columns // n) >= MULTIPROCESSORS else 64
    # Without wgmma the operands pass through registers, and there a deep step spills.
    k = 64 if product.unit >= 64 and not target.startswith("sm_8") else 32
    # With a single tap and three stages ptxas serialises some tiles (C7515); four stages it takes.
    single = isinstance(op, (ops.Conv, ops.ConvDgrad)) and product.depth == product.unit and target == "sm_90"
    return Tile(m, n, k, warps=8 if m * n > 8192 else 4, stages=4 if single else 3)


def _walking(tile: Tile, anchor: ops.Op, operands: Types, rows: int, target: str) -> Tile:
    """The tile of programs that walk over rows and sum them: as many as the chip runs at a time, all with as many rows.

    Behind a product the sums take registers, and addresses that are the same for all rows are kept in some.
    """
    waves, columns = 4, 1
    made = anchor.infer(*operands)[0].shape
    if isinstance(anchor, MATRIX_OPS) and not ops.is_depthwise(anchor, operands[1].shape):
        tile, waves = replace(tile, n=min(64, tile.n), warps=8 if tile.n >= 32 else tile.warps), 2
        if target.startswith("sm_10"):  # where accumulators lie in a memory of their own, and pass through registers
            tile = replace(tile, m=64)
        columns = phases(anchor) * getattr(anchor, "groups", 1)
    programs = -(-made[-1] // tile.n) * columns
    return replace(tile, splits=max(1, min(waves * MULTIPROCESSORS // programs, -(-rows // tile.m))))


def _wgrad_tile(op: ops.Op, product: Product, dtype: str) -> Tile:
    widest = 32 if not product.aligned else 64 if dtype == "float32" else 128
    m = max(16, min(64, power_of_two(product.rows)))
    unit = product.unit if product.unit > 16 else product.columns
    n = max(16, min(widest, power_of_two(unit)))
    k = 16 if dtype == "float32" else 64 if product.aligned else 32
    taps = product.columns // product.unit if n <= power_of_two(product.unit) else 1
    programs = -(-product.rows // m) * taps * -(-(product.columns // taps) // n)
    splits = _splits(programs, product.depth, 8 * k)
    return Tile(m, n, k, splits, warps=4, stages=3 if dtype != "float32" and product.aligned else 2)


def _depthwise_wgrad_tile(op: ops.ConvWgrad, rows: int, channels: int, target: str) -> Tile:
    """``k`` is the number of taps whose sums one program keeps, each a tile of rows and channels."""
    taps = min(op.window.kernel[1], DEPTHWISE_TAPS)
    if target == INTERPRET:
        n = min(power_of_two(channels), 512)
        return Tile(min(power_of_two(rows), 8 * INTERPRET_SUM_ROWS), n, taps, warps=1, stages=1)
    n = min(64, power_of_two(channels))
    m = (1024 if taps <= 3 else 512) // n  # each tap has an address of its own for every element
    programs = -(-channels // n) * -(-op.window.taps // taps)
    return Tile(m, n, taps, _splits(programs, rows, 4 * m), warps=4, stages=2)


def _splits(programs: int, depth: int, least: int) -> int:
    """How many programs share one sum: enough to fill the chip, each with at least ``least`` terms."""
    wanted = min(-(-2 * MULTIPROCESSORS // programs), max(1, depth // least), MAX_SPLITS)
    return 1 << (max(1, wanted).bit_length() - 1)


def _sum_tile(rows: int, channels: int, target: str) -> Tile:
    if target == INTERPRET:
        n = min(power_of_two(channels), 512)
        return Tile(min(power_of_two(rows), INTERPRET_SUM_ROWS), n, 1, warps=1, stages=1)
    n = min(64, power_of_two(channels))
    m = 2048 // n
    return Tile(m, n, 1, _splits(-(-channels // n), rows, 4 * m), warps=4, stages=2)


def _batch_sum_tile(elements: int, images: int, target: str) -> Tile:
    if target == INTERPRET:
        return Tile(min(power_of_two(images), INTERPRET_SUM_ROWS), min(power_of_two(elements), 4096), 1, 1, 1, 1)
    n = min(64, power_of_two(elements))
    return Tile(min(power_of_two(images), 1024 // n), n, 1, warps=4, stages=1)


def _rowwise_tile(rows: int, channels: int, target: str) -> Tile:
    n = min(power_of_two(channels), 4096 if target == INTERPRET else 1024)
    if target == INTERPRET:
        return Tile(min(power_of_two(rows), INTERPRET_ELEMENTS // n), n, 1, warps=1, stages=1)
    return Tile(max(1, min(16, 1024 // n)), n, 1, warps=4, stages=1)


def _pointwise_tile(rows: int, channels: int, target: str, aligned: bool) -> Tile:
    if target == INTERPRET:
        n = min(power_of_two(channels), 512)
        return Tile(min(power_of_two(rows), INTERPRET_ELEMENTS // n), n, 1, warps=1, stages=1)
    n = min(128, power_of_two(channels))
    vectors = aligned and channels % ALIGNED == 0
    return Tile((2048 if vectors else 1024) // n, n, 1, warps=4, stages=1)
