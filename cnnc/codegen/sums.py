"""Sums over rows, one per channel: batch-norm statistics and gradients, bias gradients.

Each of ``SPLITS`` programs sums its share of the rows and leaves a partial result; a second kernel adds
those up in order, so that the result does not depend on the order of programs.
"""

from __future__ import annotations

from cnnc.codegen.context import Context
from cnnc.codegen.kernel import Kernel, fixed
from cnnc.codegen.launch import Programs
from cnnc.codegen.rows import Rows, operand, rows_of
from cnnc.ir import ops
from cnnc.ir.plan import Buffer
from cnnc.ir.size import Size

BEGIN = """
channel = tl.program_id(0) * BN + tl.arange(0, BN)
channel_live = channel < C
split = tl.program_id(1)
trips = ((ROWS + BM - 1) // BM + SPLITS - 1) // SPLITS
"""

LOOP = """
for trip in range(trips):
    rows = (split * trips + trip) * BM + tl.arange(0, BM)
"""

# Chan, Golub and LeVeque 1983: join the mean and the sum of squared deviations of two sets.
STATS_STEP = """
    count = tl.sum(live.to(tl.float32), axis=0)
    tile_mean = tl.sum(x_tile, axis=0) / tl.maximum(count, 1.0)
    off = tl.where(tile_live, x_tile - tile_mean[None, :], 0.0)
    delta = tile_mean - mean
    joined = tl.maximum(seen + count, 1.0)
    spread += tl.sum(off * off, axis=0) + delta * delta * (seen * count / joined)
    mean += delta * (count / joined)
    seen += count
"""

# The number of rows in each share follows from its place; shares beyond the end have none.
STATS_JOIN = """
channel = tl.program_id(0) * BN + tl.arange(0, BN)
channel_live = channel < C
share = ((ROWS + BM - 1) // BM + SPLITS - 1) // SPLITS * BM
mean = tl.full((BN,), 0.0, tl.float32)
spread = tl.full((BN,), 0.0, tl.float32)
seen = 0.0
for split in range(SPLITS):
    count = tl.minimum(tl.maximum((ROWS) - split * share, 0), share) * 1.0
    at = partial + split * 2 * C + channel
    part_mean = tl.load(at, mask=channel_live, other=0.0)
    part_spread = tl.load(at + C, mask=channel_live, other=0.0)
    delta = part_mean - mean
    joined = tl.maximum(seen + count, 1.0)
    spread += part_spread + delta * delta * (seen * count / joined)
    mean += delta * (count / joined)
    seen += count
"""

SUM_JOIN = """
channel = tl.program_id(0) * BN + tl.arange(0, BN)
channel_live = channel < C
acc = tl.full((BN,), 0.0, tl.float32)
for split in range(SPLITS):
    acc += tl.load(partial + split * SUMS * C + OFFSET + channel, mask=channel_live, other=0.0)
"""


def _begin(context: Context, name: str, summary: str, x: Buffer) -> tuple[Kernel, Rows]:
    kernel = Kernel(name, summary)
    return kernel, rows_of(x)


def _loop(kernel: Kernel, context: Context, rows: Rows, x: Buffer, lines: list[str]) -> None:
    """Declare the tile and write the loop over this split's rows around some lines."""
    tile = context.tile
    rows.declare(kernel)
    kernel.integers(C=x.shape[-1])
    kernel.counts(SPLITS=tile.splits)
    kernel.constant(BM=tile.m, BN=tile.n)
    body = [*rows.decode(), "tile_live = live[:, None] & channel_live[None, :]", *lines]
    text = LOOP.strip("\n") + "\n" + "\n".join(f"    {line}" for line in body)
    kernel.body.append(text)


def _load(name: str, rows: Rows) -> list[str]:
    return [
        f"{name}_row = {rows.offsets(name)}",
        f"{name}_at = {name} + {name}_row[:, None] + channel[None, :]",
        f"{name}_tile = tl.load({name}_at, mask=tile_live, other=0.0).to(tl.float32)",
    ]


def _grid(context: Context, channels: int) -> tuple[Programs, ...]:
    return fixed(-(-channels // context.tile.n)), fixed(context.tile.splits)


def _partial_bytes(context: Context, sums: int, channels: int) -> Size:
    return Size(c=4 * context.tile.splits * sums * channels)


def _store_sums(context: Context, kernel: Kernel, variables: list[str], outputs: list[Buffer | None]) -> None:
    """Store final sums to their buffers, or partial ones to the workspace."""
    if context.tile.splits == 1:
        for variable, buffer in zip(variables, outputs, strict=True):
            if buffer is not None:
                out = kernel.pointer("out", buffer)
                kernel.write(f"tl.store({out} + channel, {variable}, mask=channel_live)")
        return
    kernel.pointer("partial", context.workspace)
    for slot, variable in enumerate(variables):
        place = f"partial + (split * {len(variables)} + {slot}) * C + channel"
        kernel.write(f"tl.store({place}, {variable}, mask=channel_live)")


def _add(context: Context, kernel: Kernel, sums: int, channels: int) -> None:
    """Launch the first stage."""
    nbytes = context.read() + context.written()
    if context.tile.splits > 1:
        nbytes = context.read() + _partial_bytes(context, sums, channels)
    context.add(kernel, _grid(context, channels), nbytes)


def emit_stats(context: Context) -> None:
    """Mean and biased variance over rows."""
    assert isinstance(context.anchor, ops.BatchNormStats)
    (x,) = context.operands
    channels = x.shape[-1]
    kernel, rows = _begin(context, "bn_stats", "Mean and variance of each channel, joined tile by tile.", x)
    operand(kernel, "x", x)
    kernel.write(BEGIN.replace("ROWS", rows.total))
    kernel.write("mean = tl.full((BN,), 0.0, tl.float32)\nspread = tl.full((BN,), 0.0, tl.float32)\nseen = 0.0")
    _loop(kernel, context, rows, x, [*_load("x", rows), *_dedent(STATS_STEP)])
    if context.tile.splits == 1:
        kernel.write(f"variance = spread / (({rows.total}) * 1.0)")
        _store_sums(context, kernel, ["mean", "variance"], list(context.outputs))
        _add(context, kernel, 2, channels)
        return
    _store_sums(context, kernel, ["mean", "spread"], list(context.outputs))
    _add(context, kernel, 2, channels)
    _join_stats(context, rows, channels)


def _dedent(text: str) -> list[str]:
    return [line.removeprefix("    ") for line in text.strip("\n").splitlines()]


def _join_stats(context: Context, rows: Rows, channels: int) -> None:
    kernel = Kernel("bn_stats_join", "Join the partial means and variances of bn_stats.")
    kernel.pointer("partial", context.workspace)
    rows.declare(kernel)
    kernel.integers(C=channels)
    kernel.counts(SPLITS=context.tile.splits)
    kernel.constant(BM=context.tile.m, BN=context.tile.n)
    kernel.write(STATS_JOIN.replace("ROWS", rows.total))
    kernel.write(f"variance = spread / (({rows.total}) * 1.0)")
    for variable, buffer in zip(("mean", "variance"), context.outputs, strict=True):
        if buffer is not None:
            out = kernel.pointer("out", buffer)
            kernel.write(f"tl.store({out} + channel, {variable}, mask=channel_live)")
    nbytes = _partial_bytes(context, 2, channels) + context.written()
    context.add(kernel, (_grid(context, channels)[0],), nbytes, Size())


def emit_bn_reduce(context: Context) -> None:
    """dgamma = sum of dy * xhat, dbeta = sum of dy."""
    op = context.anchor
    assert isinstance(op, ops.BatchNormReduce)
    dy, x, mean, var = context.operands
    channels = x.shape[-1]
    kernel, rows = _begin(context, "bn_reduce", "Gradients of batch norm's gamma and beta.", x)
    operand(kernel, "dy", dy)
    operand(kernel, "x", x)
    kernel.pointer("mean", mean)
    kernel.pointer("var", var)
    kernel.constant(EPS=op.eps)
    kernel.write(BEGIN.replace("ROWS", rows.total))
    kernel.write(
        """
        shift = tl.load(mean + channel, mask=channel_live, other=0.0)
        inverse = 1.0 / tl.sqrt_rn(tl.load(var + channel, mask=channel_live, other=1.0) + EPS)
        dgamma = tl.full((BN,), 0.0, tl.float32)
        dbeta = tl.full((BN,), 0.0, tl.float32)
        """
    )
    # A dead row has dy = 0, so that its xhat does not count.
    steps = [
        "dgamma += tl.sum(dy_tile * ((x_tile - shift[None, :]) * inverse[None, :]), axis=0)",
        "dbeta += tl.sum(dy_tile, axis=0)",
    ]
    _loop(kernel, context, rows, x, [*_load("dy", rows), *_load("x", rows), *steps])
    _store_sums(context, kernel, ["dgamma", "dbeta"], list(context.outputs))
    _add(context, kernel, 2, channels)
    _join_sums(context, list(context.outputs), channels)


def emit_channel_sum(context: Context) -> None:
    """The sum of each channel: a bias's gradient."""
    assert isinstance(context.anchor, ops.ChannelSum)
    (x,) = context.operands
    channels = x.shape[-1]
    kernel, rows = _begin(context, "channel_sum", "Sum of each channel over pixels and images.", x)
    operand(kernel, "x", x)
    kernel.write(BEGIN.replace("ROWS", rows.total))
    kernel.write("acc = tl.full((BN,), 0.0, tl.float32)")
    _loop(kernel, context, rows, x, [*_load("x", rows), "acc += tl.sum(x_tile, axis=0)"])
    _store_sums(context, kernel, ["acc"], list(context.outputs))
    _add(context, kernel, 1, channels)
    _join_sums(context, list(context.outputs), channels)


def _join_sums(context: Context, outputs: list[Buffer | None], channels: int) -> None:
    """The second stage: one launch per sum."""
    if context.tile.splits == 1:
        return
    for slot, buffer in enumerate(outputs):
        if buffer is None:
            continue
        kernel = Kernel("sum_join", "Add up partial sums of each channel, in order.")
        kernel.pointer("partial", context.workspace)
        kernel.pointer("out", buffer)
        kernel.integers(C=channels, OFFSET=slot * channels)
        kernel.counts(SUMS=len(outputs), SPLITS=context.tile.splits)
        kernel.constant(BN=context.tile.n)
        kernel.write(SUM_JOIN)
        kernel.write("tl.store(out + channel, acc, mask=channel_live)")
        nbytes = _partial_bytes(context, 1, channels) + Size(c=4 * channels)
        context.add(kernel, (_grid(context, channels)[0],), nbytes, Size())
