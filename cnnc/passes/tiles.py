"""Tile sizes of GPU kernels: one analytic rule per class of kernel, from the sizes of its loop nest.

Rows of a tile are (pixel, image) pairs, columns channels; ``k`` is the step of the summed axis. On a GPU a
few tiles serve everything, so that few kernels are compiled. In Triton's interpreter the cost is per
program and step, hardly per element, so that blocks there are as large as memory allows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from cnnc.ir import ops
from cnnc.ir.plan import ALIGN_BYTES, Buffer, Tile
from cnnc.ir.size import Size
from cnnc.ir.types import Element, TensorType
from cnnc.passes.descriptor_tiles import MULTIPROCESSORS, product_tile, wgrad_tile

Types = tuple[TensorType, ...]

INTERPRET = "interpret"
INTERPRET_ELEMENTS = 1 << 19  # largest block in the interpreter: its int64 addresses take 4 MB
INTERPRET_GATHER = 1 << 17  # elements of a strided dgrad above which its masked ones cost more than more programs
INTERPRET_SUM_ROWS = 64  # the interpreter adds a block's rows one by one; longer runs round too much in float32
MAX_SPLITS = 64
DEPTHWISE_TAPS = 8  # sums of a depthwise wgrad that one program keeps in registers
ALIGNED = 16  # Triton knows of an integer at most that it is a multiple of 16

WGRADS = (ops.ConvWgrad, ops.LinearWgrad)
MATRIX_OPS = (ops.Conv, ops.ConvDgrad, ops.Linear, ops.LinearDgrad, *WGRADS)
# Channel vectors summed over rows, and how many such sums each keeps.
ROW_SUMS: dict[type[ops.Op], int] = {ops.BatchNormStats: 3, ops.BatchNormReduce: 2, ops.ChannelSum: 1}
ROWWISE = (ops.Softmax, ops.SoftmaxGrad, ops.CrossEntropy, ops.Rbf, ops.RbfGrad)
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
POOLS = (ops.MaxPool, ops.AvgPool, ops.SumPool)
# Parts whose results are no tile of the kernel: sums over its rows, or slices of what the part before them gives.
NO_TILE = (*ROW_SUMS, ops.BatchNormUpdate, ops.Split)
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
        return _described_tile(op, operands, replace(product, aligned=product.aligned and aligned), n)
    rows = math.prod(tile_shape(op, operands)[:-1]) * n if isinstance(op, ops.Fused) else None
    tile = _anchor_tile(anchor, read, made, n, target, dtype, aligned, rows)
    if tile is None or not isinstance(op, ops.Fused) or rows is None or target == INTERPRET:
        return tile
    if holds_pixels(op):
        return _whole_pixels(tile, anchor, tile_shape(op, operands)[-1])
    if isinstance(anchor, MATRIX_OPS):
        tile = _with_room(tile, op, operands, aligned)
        if _computes_factors(op, len(operands)):
            tile = _with_factors(tile, target)
    if _sums(op) and type(anchor) not in ROW_SUMS:
        tile = _walking(tile, anchor, read, rows)
    return tile


def holds_pixels(op: ops.Op) -> bool:
    """Whether a kernel's tile must hold all channels of its pixels, for a part that looks at a channel's neighbours."""
    return isinstance(op, ops.Fused) and any(isinstance(part.op, ops.Lrn) for part in op.parts[op.main + 1 :])


def _whole_pixels(tile: Tile, anchor: ops.Op, channels: int) -> Tile:
    n = max(16, power_of_two(channels))
    if isinstance(anchor, MATRIX_OPS):
        return replace(tile, m=64, n=n, k=min(32, tile.k), warps=8)
    return replace(tile, m=max(1, 2048 // n), n=n)


def _described_tile(op: ops.Op, operands: Types, product: Product, n: int) -> Tile:
    """The tile of a product whose factors come in blocks, and among how many programs its sums are split."""
    anchor, read, _ = anchor_of(op, operands, op.infer(*operands))
    if isinstance(anchor, WGRADS):
        tile = wgrad_tile(op, operands, product.rows, product.unit, aligned=product.aligned)
        return replace(tile, splits=_splits(wgrad_programs(anchor, read, tile), product.depth, 8 * tile.k))
    pixels = math.prod(tile_shape(op, operands)[:-1])
    tile = product_tile(op, operands, pixels, n, product.columns, aligned=product.aligned)
    if not _sums(op):
        return tile
    columns = -(-product.columns // tile.n)
    return replace(tile, splits=max(1, min(MULTIPROCESSORS // columns, pixels * -(-n // tile.m))))


def tile_shape(op: ops.Op, operands: Types) -> tuple[int, ...]:
    """Shape of the value that a kernel's programs hold tiles of: the last part's that is one, or what is summed."""
    parts, values = _body(op, operands)
    for part in reversed(parts):
        if type(part.op) not in NO_TILE:
            return part.op.infer(*(values[i] for i in part.operands))[0].shape
    return values[parts[0].operands[0]].shape


def _body(op: ops.Op, operands: Types) -> tuple[tuple[ops.Part, ...], Types]:
    """An op's parts and the types of their values; a plain op is its own part."""
    if isinstance(op, ops.Fused):
        return op.parts, op.value_types(operands)
    return (ops.Part("", op, tuple(range(len(operands)))),), (*operands, *op.infer(*operands))


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


def workspace_bytes(op: ops.Op, operands: Types, results: Types, tile: Tile | None) -> Size:
    """Bytes of partial results of programs that share a sum, or the losses of an image's positions."""
    sums = _sums(op)
    channels = sum_channels(op, operands)
    anchor, operands, results = anchor_of(op, operands, results)
    if tile is not None and isinstance(anchor, ops.CrossEntropy) and operands[1].count > 1:
        return Size(a=-(-4 * operands[1].count // ALIGN_BYTES) * ALIGN_BYTES)
    if tile is None:
        return Size()
    count = 0
    if isinstance(anchor, WGRADS) and tile.splits > 1:
        count = tile.splits * results[0].count
    if sums:
        count = sharing(op, operands, results, tile) * sums * channels
    return Size(c=-(-4 * count // ALIGN_BYTES) * ALIGN_BYTES)


def counter_count(op: ops.Op, operands: Types, results: Types, tile: Tile) -> int:
    """How many counters a step needs: one for each block of channels, or of a weight, that programs sum together."""
    channels = sum_channels(op, operands)
    sums = _sums(op)
    anchor, operands, results = anchor_of(op, operands, results)
    if isinstance(anchor, WGRADS):
        return wgrad_programs(anchor, operands, tile) if tile.splits > 1 else 0
    if not sums:
        return 0
    if sharing(op, operands, results, tile) == 0:
        return 0
    groups = anchor.groups if isinstance(anchor, ops.Conv | ops.ConvDgrad) else 1
    return groups * -(-channels // groups // tile.n)


def wgrad_programs(op: ops.Op, operands: Types, tile: Tile) -> int:
    """Tiles of a weight's gradient: the programs of one split of its rows. Operands are the anchor's."""
    if isinstance(op, ops.ConvWgrad) and ops.is_depthwise(op, operands[1].shape):
        return -(-operands[0].shape[2] // tile.n) * -(-op.window.taps // tile.k)
    product = product_of(op, operands, op.infer(*operands), 1)
    taps = 1 if gathers(op, product, tile) else product.columns // product.unit
    columns = taps * -(-product.columns // taps // tile.n)
    groups = op.groups if isinstance(op, ops.ConvWgrad) else 1
    return groups * -(-product.rows // tile.m) * columns


def sharing(op: ops.Op, operands: Types, results: Types, tile: Tile) -> int:
    """How many programs share each sum over rows; 0 if one has it alone. Operands are the anchor's."""
    anchor = op.anchor if isinstance(op, ops.Fused) else op
    programs = tile.splits
    if isinstance(anchor, ops.ConvDgrad) and not ops.is_depthwise(anchor, operands[1].shape):
        product = product_of(anchor, operands, results, 1)
        programs *= 1 if tile.descriptors or gathers(anchor, product, tile) else phases(anchor)
    return programs if programs > 1 else 0


def sum_channels(op: ops.Op, operands: Types) -> int:
    """Channels of what a step sums over rows; 0 if it sums nothing."""
    parts = op.parts if isinstance(op, ops.Fused) else (ops.Part("", op, tuple(range(len(operands)))),)
    types = op.value_types(operands) if isinstance(op, ops.Fused) else operands
    return next((types[part.operands[0]].shape[-1] for part in parts if type(part.op) in ROW_SUMS), 0)


def _sums(op: ops.Op) -> int:
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


def _with_room(tile: Tile, op: ops.Fused, operands: Types, aligned: bool) -> Tile:
    """A product's tile that leaves registers for what needs some of its own for every element: a window's maximum or
    sum, the tap where it was found, ten rounds of Philox, another product's factors."""
    values = op.value_types(operands)
    before = op.parts[: op.main]
    if any(_is_window(part, values) for part in before):
        # Every tap has loads of its own. Pipelined, they would take the shared memory of nine factors, and ptxas
        # serialises wgmma behind them (C7515); other programs hide their latency.
        factor = values[op.parts[op.main].operands[0]]
        vectors = aligned and factor.shape[-1] % ALIGNED == 0
        return replace(tile, m=64, k=min(32 if vectors else 16, tile.k), warps=8, stages=1)
    if any(isinstance(part.op, MATRIX_OPS) for part in before):
        tile = replace(tile, warps=8)
    heavy = any(isinstance(part.op, ops.Dropout) for part in op.parts)
    heavy |= any(values[number].element is Element.INDEX for number in op.results)
    if not heavy and not any(isinstance(part.op, POOLS) for part in op.parts):
        return tile
    return replace(tile, m=64 if heavy else tile.m, n=min(64, tile.n), warps=8)


def _computes_factors(op: ops.Fused, operands: int) -> bool:
    """Whether an image that the main part multiplies is computed on the way."""
    part = op.parts[op.main]
    return max(part.operands[:2] if isinstance(part.op, WGRADS) else part.operands[:1]) >= operands


def _with_factors(tile: Tile, target: str) -> Tile:
    """A tile whose factors are computed in registers: more threads share them; AMD's have fewer."""
    if target.startswith("gfx"):
        tile = replace(tile, m=min(64, tile.m), k=min(32, tile.k))
    return replace(tile, warps=8)


def _is_window(part: ops.Part, values: Types) -> bool:
    """Whether a part looks at neighbouring pixels, channel by channel."""
    return isinstance(part.op, POOLS) or (
        len(part.operands) > 1 and ops.is_depthwise(part.op, values[part.operands[1]].shape)
    )


def _walking(tile: Tile, anchor: ops.Op, operands: Types, rows: int) -> Tile:
    """The tile of programs that walk over rows and sum them: as many as the chip runs at a time, all with as many rows.

    Behind a product the sums take registers, and addresses that are the same for all rows are kept in some.
    """
    waves, columns = 4, 1
    made = anchor.infer(*operands)[0].shape
    if isinstance(anchor, MATRIX_OPS) and not ops.is_depthwise(anchor, operands[1].shape):
        tile, waves = replace(tile, n=min(64, tile.n), warps=8 if tile.n >= 32 else tile.warps), 2
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
