"""Local response normalisation across channels (Krizhevsky 2012) and its gradient.

Neighbouring channels of a pixel are loaded again for each place of the window: they lie in the lines that
the tile has just brought into the first-level cache. All sums are in float32, in one order.
"""

from __future__ import annotations

from cnnc.codegen.context import Context
from cnnc.codegen.epilogue import chain_name, chain_text, finish
from cnnc.codegen.kernel import Kernel
from cnnc.codegen.pointwise import begin_tile, column_tiles
from cnnc.codegen.rows import operand, rows_of
from cnnc.ir import ops

# base = K + ALPHA * the sum of squares around channels {centre}.
BASE = """
total = tl.full((BM, BN), 0.0, tl.float32)
for tap in range(SIZE):
    near = {centre} - BEFORE + tap
    near_live = live[:, None] & ((near >= 0) & (near < C))[None, :]
    value = tl.load(x + x_row[:, None] + near[None, :], mask=near_live, other=0.0).to(tl.float32)
    total += value * value
base = K + ALPHA * total
power = {power}
"""

FORWARD = """
mask = live[:, None] & channel_live[None, :]
normalised = tl.load(x + x_row[:, None] + channel[None, :], mask=mask, other=0.0).to(tl.float32) * power
"""

# x_j is in its own numerator and in the sums of the channels c around it, whose windows hold j.
SHARED = """
shared = tl.full((BM, BN), 0.0, tl.float32)
own = tl.full((BM, BN), 0.0, tl.float32)
for place in range(SIZE):
    c = channel + (BEFORE + 1 - SIZE + place)
    c_live = live[:, None] & ((c >= 0) & (c < C))[None, :]
{base}
    dy_tile = tl.load(dy + dy_row[:, None] + c[None, :], mask=c_live, other=0.0).to(tl.float32) * power
    x_tile = tl.load(x + x_row[:, None] + c[None, :], mask=c_live, other=0.0).to(tl.float32)
    # Beyond the last channel the base may be 0.
    shared += tl.where(c_live, dy_tile * x_tile / base, 0.0)
    own = tl.where((c == channel)[None, :], dy_tile, own)
mask = live[:, None] & channel_live[None, :]
x_own = tl.load(x + x_row[:, None] + channel[None, :], mask=mask, other=0.0).to(tl.float32)
dx = own - (2.0 * ALPHA * BETA) * x_own * shared
"""


def emit_lrn(context: Context) -> None:
    """Each channel over a power of the sum of squares around it."""
    op = context.anchor
    assert isinstance(op, ops.Lrn)
    kernel = _begin(context, "lrn", "Local response normalisation.", ("x",), op)
    kernel.write(_base("channel", op.beta))
    kernel.write(FORWARD)
    _end(context, kernel, "normalised")


def emit_lrn_grad(context: Context) -> None:
    """The gradient from dy and x; the sums are computed again."""
    op = context.anchor
    assert isinstance(op, ops.LrnGrad)
    kernel = _begin(context, "lrn_grad", "Gradient of local response normalisation.", ("dy", "x"), op)
    base = "\n".join(f"    {line}" for line in _base("c", op.beta).splitlines())
    kernel.body.append(SHARED.strip("\n").replace("{base}", base))
    kernel.constant(BETA=op.beta)
    _end(context, kernel, "dx")


def _begin(context: Context, name: str, summary: str, names: tuple[str, ...], op: ops.Lrn | ops.LrnGrad) -> Kernel:
    """A kernel over the operands' pixels and channels."""
    kernel = Kernel(chain_name(context, name), summary + chain_text(context))
    x = context.operands[-1]
    rows = rows_of(x)
    for pointer, buffer in zip(names, context.operands, strict=True):
        operand(kernel, pointer, buffer)
    begin_tile(context, kernel, rows, x.shape[-1])
    kernel.constant(SIZE=op.n, BEFORE=op.n // 2, ALPHA=op.alpha, K=op.k)
    if op.beta != 0.75:
        kernel.constant(BETA=op.beta)
    kernel.write("\n".join(f"{pointer}_row = {rows.offsets(pointer)}" for pointer in names))
    return kernel


def _base(centre: str, beta: float) -> str:
    """The base and ``power = base^-beta``: by roots where beta is 0.75, since they are rounded exactly."""
    roots = "1.0 / (tl.sqrt_rn(base) * tl.sqrt_rn(tl.sqrt_rn(base)))"
    power = roots if beta == 0.75 else "tl.exp(-BETA * tl.log(base))"
    return BASE.strip("\n").replace("{centre}", centre).replace("{power}", power)


def _end(context: Context, kernel: Kernel, computed: str) -> None:
    x = context.operands[-1]
    rows = rows_of(x)
    finish(context, kernel, rows, [computed])
    context.add(kernel, rows.programs(context.tile.m, column_tiles(context, x.shape[-1])))
