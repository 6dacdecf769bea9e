"""Tiles of products whose factors are loaded in blocks: those that leave registers enough for what else a kernel does.

The limits come from compiling the fused kernels of whole networks for sm_90; no GPU has measured the speeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cnnc.ir import ops
from cnnc.ir.plan import Tile
from cnnc.ir.types import TensorType
from cnnc.passes.descriptors import PRODUCTS, is_pixelwise

MULTIPROCESSORS = 132  # of an H100 or H200; smaller chips only get more programs than they need
SHARED = 227 * 1024  # bytes for the blocks of all stages
ITEM = 2  # bytes of an element in the dtypes that there are blocks of

NORMS = (ops.BatchNorm, ops.BatchNormInputGrad)
SUMS = (ops.BatchNormStats, ops.BatchNormReduce)
# Each element of a tile of these takes registers of its own, and many instructions.
HEAVY = (ops.Dropout,)


def _tile(m: int, n: int, warps: int, stages: int) -> Tile:
    return Tile(m, n, 64, warps=warps, stages=stages, descriptors=True)


# How much of the matrix units' speed each is thought to reach.
SPEEDS = {
    _tile(128, 256, 8, 3): 1.0,
    _tile(256, 128, 8, 3): 1.0,
    _tile(128, 128, 8, 4): 0.9,
    _tile(64, 256, 4, 4): 0.85,
    _tile(128, 64, 4, 4): 0.75,
    _tile(64, 128, 4, 4): 0.75,
    _tile(128, 64, 8, 4): 0.7,
    _tile(64, 64, 4, 4): 0.55,
    _tile(64, 64, 8, 4): 0.5,
}


@dataclass(frozen=True)
class Load:
    """What a kernel does beside one product.

    ``factors`` are operands that a product's factors are read or computed from, ``computed`` says that some are;
    ``tiles`` are operands that the epilogue reads, ``normed`` that it computes a batch norm or its sums, ``heavy``
    that there is dropout.
    """

    products: int
    factors: int
    computed: bool
    tiles: int
    normed: bool
    heavy: bool


def load_of(op: ops.Op, types: Sequence[TensorType]) -> Load:
    """``types`` are those of the op's operands."""
    if not isinstance(op, ops.Fused):
        return Load(1, sum(kind.batched for kind in types), False, 0, False, False)
    values = op.value_types(tuple(types))
    maker: dict[int, int] = {}
    for index, part in enumerate(op.parts):
        for _ in part.op.infer(*(values[number] for number in part.operands)):
            maker[len(types) + len(maker)] = index
    products = [index for index, part in enumerate(op.parts) if isinstance(part.op, PRODUCTS)]
    ahead = _behind([number for index in products for number in op.parts[index].operands], op, maker, products)
    after = [part for index, part in enumerate(op.parts) if index not in ahead and index not in products]
    read = {number for index in (*ahead, *products) for number in op.parts[index].operands}
    tiles = {number for part in after for number in part.operands if number < len(types) and values[number].batched}
    return Load(
        products=len(products),
        factors=sum(values[number].batched for number in read if number < len(types)),
        computed=bool(ahead),
        tiles=len(tiles),
        normed=any(isinstance(part.op, (*NORMS, *SUMS)) for part in after),
        heavy=any(isinstance(part.op, HEAVY) for part in op.parts),
    )


def _behind(numbers: Sequence[int], op: ops.Fused, maker: dict[int, int], products: Sequence[int]) -> set[int]:
    """The parts that values are computed by, without the products among them."""
    found: set[int] = set()
    waiting = list(numbers)
    while waiting:
        index = maker.get(waiting.pop())
        if index is not None and index not in found and index not in products:
            found.add(index)
            waiting.extend(op.parts[index].operands)
    return found


def product_tile(op: ops.Op, types: Sequence[TensorType], pixels: int, n: int, columns: int, *, aligned: bool) -> Tile:
    """The tile that takes the least time for ``pixels * n`` rows: whole rounds of programs at its speed.

    Where channels or slices are not ``aligned``, every element stored has an address of its own.
    """
    load = load_of(op, types)

    def cost(tile: Tile) -> float:
        rows = pixels * -(-n // tile.m) if is_pixelwise(op) else -(-pixels * n // tile.m)
        rounds = -(-rows * -(-columns // tile.n) // MULTIPROCESSORS)
        return rounds * tile.m * tile.n / SPEEDS[tile]

    return _staged(min((tile for tile in SPEEDS if _has_room(tile, load, aligned)), key=cost), load)


def _has_room(tile: Tile, load: Load, aligned: bool) -> bool:
    """Whether a tile leaves registers for what the kernel does beside one product."""
    elements = tile.m * tile.n
    if load.heavy or not aligned:
        return elements <= 64 * 64
    if load.normed or load.tiles > 2:
        return elements <= 128 * 64 and tile.warps == 8
    if load.computed or load.tiles or load.products > 1:
        return elements <= 128 * 128 // 8 * tile.warps and (tile.warps == 8 or not load.computed)
    return True


def wgrad_tile(op: ops.Op, types: Sequence[TensorType], filters: int, channels: int, *, aligned: bool) -> Tile:
    """The tile of a weight's gradient, of so many filters and channels of one tap; it sums 64 images at a time."""
    load = load_of(op, types)
    m, n = (128 if count > 64 else 64 for count in (filters, channels))
    if load.heavy or not aligned:
        return _staged(_tile(64, 64, 8, 4), load)
    return _staged(_tile(m, n, 8 if m * n > 64 * 64 else 4, 4), load)


def _staged(tile: Tile, load: Load) -> Tile:
    """As many stages as shared memory holds blocks for: of what the factors are made from, and of a weight."""
    blocks = load.factors * tile.m + tile.n
    return replace(tile, stages=max(2, min(tile.stages, SHARED // (blocks * tile.k * ITEM))))
