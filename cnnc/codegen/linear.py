"""Matrix products over the last axis: fully connected layers and 1x1 convolutions."""

from __future__ import annotations

from cnnc.codegen.context import Context
from cnnc.codegen.epilogue import chain_name, chain_text, finish
from cnnc.codegen.kernel import Kernel
from cnnc.codegen.rows import operand, rows_of
from cnnc.ir import ops

TILE = """
column_tiles = (COLUMNS + BN - 1) // BN
rows = tl.program_id(0) // column_tiles * BM + tl.arange(0, BM)
channel = tl.program_id(0) % column_tiles * BN + tl.arange(0, BN)
channel_live = channel < COLUMNS
"""

# {x} is the left operand, {w_at} the address of the weight of depth k (down) and channel (across).
LOOP = """
trips = (DEPTH + BK - 1) // BK
tl.assume(trips > 0)  # a loop that might not run would serialise the matrix instructions
acc = tl.full((BM, BN), 0.0, tl.float32)
for trip in range(trips):
    k = trip * BK + tl.arange(0, BK)
    a_mask = live[:, None] & (k < DEPTH)[None, :]
    a = tl.load({x} + {x}_row[:, None] + k[None, :], mask=a_mask, other=0.0)
    b_mask = (k < DEPTH)[:, None] & channel_live[None, :]
    b = tl.load({w_at}, mask=b_mask, other=0.0)
    acc = tl.dot(a, b.to(a.dtype), acc, input_precision="ieee")
"""

FORWARD_WEIGHT = "w + (channel.to(tl.int64) * DEPTH)[None, :] + k[:, None]"
BACKWARD_WEIGHT = "w + (k.to(tl.int64) * COLUMNS)[:, None] + channel[None, :]"


def emit_linear(context: Context) -> None:
    """``x [rows, C]`` times ``w [K, C]`` transposed."""
    assert isinstance(context.anchor, ops.Linear)
    summary = f"Linear layer or 1x1 convolution: x times w transposed.{chain_text(context, 1)}"
    _emit(context, "linear_fprop", summary, "x", FORWARD_WEIGHT, depth_axis=1)


def emit_linear_dgrad(context: Context) -> None:
    """``dy [rows, K]`` times ``w [K, C]``."""
    summary = f"Gradient of a linear layer with respect to its input: dy times w.{chain_text(context, 1)}"
    _emit(context, "linear_dgrad", summary, "dy", BACKWARD_WEIGHT, depth_axis=0)


def _emit(context: Context, name: str, summary: str, left: str, w_at: str, *, depth_axis: int) -> None:
    x, w = context.operands
    tile = context.tile
    kernel = Kernel(chain_name(context, name), summary)
    rows = rows_of(x)
    operand(kernel, left, x)
    kernel.pointer("w", w)
    rows.declare(kernel)
    columns = w.shape[1 - depth_axis]
    kernel.integers(DEPTH=w.shape[depth_axis], COLUMNS=columns)
    kernel.constant(BM=tile.m, BN=tile.n, BK=tile.k)
    kernel.write(TILE)
    kernel.write("\n".join([*rows.decode(), f"{left}_row = {rows.offsets(left)}"]))
    kernel.write(LOOP.replace("{x}", left).replace("{w_at}", w_at))
    finish(context, kernel, rows, ["acc"], channels="COLUMNS")
    context.add(kernel, rows.programs(tile.m, -(-columns // tile.n)))
