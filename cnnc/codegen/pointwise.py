"""Kernels that move elements between an image and a vector, and the plain tile that others begin with."""

from __future__ import annotations

from cnnc.codegen.context import Context
from cnnc.codegen.kernel import Kernel
from cnnc.codegen.rows import Rows, operand, rows_of
from cnnc.ir.plan import Buffer

TILE = """
column_tiles = (C + BN - 1) // BN
rows = tl.program_id(0) // column_tiles * BM + tl.arange(0, BM)
channel = tl.program_id(0) % column_tiles * BN + tl.arange(0, BN)
channel_live = channel < C
"""


def begin_tile(context: Context, kernel: Kernel, rows: Rows, channels: int) -> None:
    """Write the decoding of a plain tile: a block of rows, a block of channels."""
    tile = context.tile
    rows.declare(kernel)
    kernel.integers(C=channels)
    kernel.constant(BM=tile.m, BN=tile.n)
    kernel.write(TILE)
    kernel.write("\n".join(rows.decode()))


def column_tiles(context: Context, channels: int) -> int:
    return -(-channels // context.tile.n)


def emit_flatten(context: Context) -> None:
    """[H, W, C] to [C*H*W] in CHW order: a transposed store."""
    _rearrange(context, image=context.operands[0], vector=context.outputs[0], to_vector=True)


def emit_unflatten(context: Context) -> None:
    """[C*H*W] to [H, W, C]: a transposed load."""
    image = context.outputs[0]
    _rearrange(context, image=image, vector=context.operands[0], to_vector=False)


def _rearrange(context: Context, image: Buffer | None, vector: Buffer | None, *, to_vector: bool) -> None:
    assert image is not None
    assert vector is not None
    rows = rows_of(image)
    kernel = Kernel("flatten" if to_vector else "unflatten", _REARRANGE[to_vector])
    first, second = ("x", "out") if to_vector else ("out", "x")
    begin_tile(context, kernel, rows, image.shape[2])
    operand(kernel, first, image)
    operand(kernel, second, vector)
    kernel.write(
        f"""
        tile_live = live[:, None] & channel_live[None, :]
        {first}_row = {rows.offsets(first)}
        {first}_at = {first} + {first}_row[:, None] + channel[None, :]
        pixel = n.to(tl.int64) * {second}_n + p * Q + q
        {second}_at = {second} + pixel[:, None] + (channel * (P * Q))[None, :]
        moved = tl.load(x_at, mask=tile_live, other=0.0)
        tl.store(out_at, moved.to(out.dtype.element_ty), mask=tile_live)
        """
    )
    context.add(kernel, rows.programs(context.tile.m, column_tiles(context, image.shape[2])))


_REARRANGE = {
    True: "Flatten an image in CHW order, as PyTorch flattens NCHW.",
    False: "Turn a vector in CHW order back into an image.",
}
