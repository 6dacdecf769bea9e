"""Kernels over parameters and arenas, where no image is in sight."""

from __future__ import annotations

import math

from cnnc.codegen.context import Context
from cnnc.codegen.kernel import Kernel, fixed
from cnnc.codegen.launch import Programs
from cnnc.codegen.pointwise import begin_tile, column_tiles
from cnnc.codegen.rows import operand, rows_of
from cnnc.codegen.template import instantiate
from cnnc.ir import ops
from cnnc.ir.plan import Buffer

BLOCK = 1024
INTERPRET_BLOCK = 1 << 16
AT = "at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)\nlive = at < COUNT"


# The operands of a batch norm's update, as kernels call them.
UPDATED = ("running_mean", "running_var", "mean", "var")

UPDATE_BEGIN = """
at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
live = at < COUNT
"""

UPDATE = (
    """
old_mean = tl.load(running_mean + at, mask=live, other=0.0)
batch_mean = tl.load(mean + at, mask=live, other=0.0)
tl.store(new_mean + at, (1.0 - MOMENTUM) * old_mean + MOMENTUM * batch_mean, mask=live)
""",
    """
old_var = tl.load(running_var + at, mask=live, other=0.0)
count = PIXELS * N
unbiased = tl.load(var + at, mask=live, other=0.0) * (count / tl.maximum(count - 1, 1))
updated = (1.0 - MOMENTUM) * old_var + MOMENTUM * unbiased
tl.store(new_var + at, tl.where(count > 1, updated, old_var), mask=live)
""",
)


def _begin(context: Context, kernel: Kernel, count: int) -> tuple[Programs, ...]:
    """Declare a flat range of elements; gives its grid."""
    block = INTERPRET_BLOCK if context.interpreted else BLOCK
    kernel.integer("COUNT", count, 64, hint=False)
    kernel.constant(BLOCK=block)
    kernel.write(AT)
    return (fixed(-(-count // block)),)


def _pointers(kernel: Kernel, **buffers: Buffer | None) -> None:
    for name, buffer in buffers.items():
        if buffer is not None:
            kernel.pointer(name, buffer)


def _load(name: str, at: str = "at") -> str:
    return f"{name}_ = tl.load({name} + {at}, mask=live, other=0.0).to(tl.float32)"


def _store(name: str, value: str) -> str:
    value = value if value.isidentifier() else f"({value})"
    return f"tl.store({name} + at, {value}.to({name}.dtype.element_ty), mask=live)"


def emit_bn_update(context: Context) -> None:
    """Running statistics, of several batch norms in turn.

    The variance is unbiased first, and stays as it is for a single element.
    """
    kernel = Kernel("bn_update", "Running means and variances after a batch.")
    kernel.batch()
    results = dict(zip(context.results, context.outputs, strict=True))
    count, longest = len(context.inputs), 0
    for place, part in enumerate(context.parts):
        assert isinstance(part.op, ops.BatchNormUpdate)
        tag = f"_{place}" if place else ""
        given = [context.inputs[number] for number in part.operands]
        _pointers(kernel, **{f"{name}{tag}": x for name, x in zip(UPDATED, given, strict=True)})
        written = [results.get(count + 2 * place), results.get(count + 2 * place + 1)]
        _pointers(kernel, **{f"new_mean{tag}": written[0], f"new_var{tag}": written[1]})
        elements = math.prod(given[0].shape)
        kernel.counts(**{f"PIXELS{tag}": part.op.pixels, f"COUNT{tag}": elements})
        kernel.constant(**{f"MOMENTUM{tag}": part.op.momentum})
        text = [UPDATE_BEGIN, *(UPDATE[slot] for slot, buffer in enumerate(written) if buffer is not None)]
        kernel.write(instantiate("\n".join(text), tag, {}))
        longest = max(longest, elements)
    block = INTERPRET_BLOCK if context.interpreted else BLOCK
    kernel.constant(BLOCK=block)
    context.add(kernel, (fixed(-(-longest // block)),))


def emit_bn_correction(context: Context) -> None:
    """What batch norm's gradient through its statistics is as a function of x, added to that of others."""
    op = context.anchor
    assert isinstance(op, ops.BatchNormCorrection)
    mean, var, gamma, dgamma, dbeta, *others = context.operands
    shift, slope = context.outputs
    kernel = Kernel("bn_correction", "Batch norm's gradient through its statistics: shift + slope x.")
    _pointers(kernel, mean=mean, var=var, gamma=gamma, dgamma=dgamma, dbeta=dbeta)
    _pointers(kernel, **dict(zip(("other_shift", "other_slope"), others, strict=False)))
    _pointers(kernel, shift=shift, slope=slope)
    kernel.batch()
    kernel.counts(PIXELS=op.pixels)
    grid = _begin(context, kernel, math.prod(mean.shape))
    kernel.constant(EPS=op.eps)
    names = ("mean", "var", "gamma", "dgamma", "dbeta", *(("other_shift", "other_slope") if others else ()))
    added = [" + other_shift_", " + other_slope_"] if others else ["", ""]
    lines = [_load(name) for name in names]
    lines += [
        "inverse = 1.0 / tl.sqrt_rn(var_ + EPS)",
        "count = PIXELS * N * 1.0",
        "own_slope = -gamma_ * inverse * inverse * (dgamma_ / count)",
        "own_shift = -gamma_ * inverse * (dbeta_ / count) - mean_ * own_slope",
    ]
    for name, buffer, more in (("shift", shift, added[0]), ("slope", slope, added[1])):
        if buffer is not None:
            lines += [f"{name}_sum = own_{name}{more}", _store(name, f"{name}_sum")]
    kernel.write("\n".join(lines))
    context.add(kernel, grid)


def emit_fold_scale(context: Context) -> None:
    """w * gamma / sqrt(var + eps), per filter."""
    op = context.anchor
    assert isinstance(op, ops.FoldScale)
    w, gamma, var = context.operands
    (out,) = context.outputs
    kernel = Kernel("fold_scale", "Fold batch norm's scale into a weight.")
    _pointers(kernel, w=w, gamma=gamma, var=var, out=out)
    grid = _begin(context, kernel, math.prod(w.shape))
    kernel.counts(INNER=math.prod(w.shape[1:]))
    kernel.constant(EPS=op.eps)
    lines = ["filter = at // INNER", _load("w"), _load("gamma", "filter"), _load("var", "filter")]
    lines.append(_store("out", "w_ * (gamma_ / tl.sqrt_rn(var_ + EPS))"))
    kernel.write("\n".join(lines))
    context.add(kernel, grid)


def emit_fold_shift(context: Context) -> None:
    """(bias - mean) * gamma / sqrt(var + eps) + beta."""
    op = context.anchor
    assert isinstance(op, ops.FoldShift)
    gamma, beta, mean, var, *bias = context.operands
    (out,) = context.outputs
    name = "fold_shift_bias" if bias else "fold_shift"
    kernel = Kernel(name, "The bias of a convolution with its batch norm folded in.")
    _pointers(kernel, gamma=gamma, beta=beta, mean=mean, var=var, bias=bias[0] if bias else None, out=out)
    grid = _begin(context, kernel, math.prod(gamma.shape))
    kernel.constant(EPS=op.eps)
    lines = [_load("gamma"), _load("beta"), _load("mean"), _load("var"), *([_load("bias")] if bias else [])]
    start = "bias_" if bias else "0.0"
    lines.append("factor = gamma_ / tl.sqrt_rn(var_ + EPS)")
    lines.append(_store("out", f"({start} - mean_) * factor + beta_"))
    kernel.write("\n".join(lines))
    context.add(kernel, grid)


def emit_mask_weight(context: Context) -> None:
    """w times 0 or 1 by filter and channel."""
    w, mask = context.operands
    (out,) = context.outputs
    kernel = Kernel("mask_weight", "A weight without the connections that its mask leaves out.")
    _pointers(kernel, w=w, mask=mask, out=out)
    grid = _begin(context, kernel, math.prod(w.shape))
    kernel.counts(INNER=math.prod(w.shape[1:]), C=w.shape[-1])
    lines = ["pair = at // INNER * C + at % C", _load("w"), _load("mask", "pair"), _store("out", "w_ * mask_")]
    kernel.write("\n".join(lines))
    context.add(kernel, grid)


def emit_binarize(context: Context) -> None:
    """The signs of the master weights; that of 0 is 1."""
    (w,) = context.operands
    (out,) = context.outputs
    kernel = Kernel("binarize", "Signs of master weights.")
    _pointers(kernel, w=w, out=out)
    grid = _begin(context, kernel, math.prod(w.shape))
    kernel.write("\n".join([_load("w"), _store("out", "tl.where(w_ >= 0.0, 1.0, -1.0)")]))
    context.add(kernel, grid)


def emit_concat_rows(context: Context) -> None:
    """Arrays below each other: each element is loaded from the one that it lies in."""
    (out,) = context.outputs
    assert out is not None
    kernel = Kernel(f"concat_rows_{len(context.operands)}", "Arrays of several layers below each other.")
    names = [f"x{number}" for number in range(len(context.operands))]
    _pointers(kernel, **dict(zip(names, context.operands, strict=True)), out=out)
    grid = _begin(context, kernel, math.prod(out.shape))
    start = "0"
    lines = ["value = tl.zeros((BLOCK,), tl.float32)"]
    end = 0
    for number, x in enumerate(context.operands):
        end += math.prod(x.shape)
        stop = kernel.integer(f"END{number}", end, 64)
        lines.append(f"inside = (at >= {start}) & (at < {stop})")
        lines.append(f"value += tl.load({names[number]} + (at - {start}), mask=inside, other=0.0).to(tl.float32)")
        start = stop
    kernel.write("\n".join([*lines, _store("out", "value")]))
    context.add(kernel, grid)


def emit_row_slice(context: Context) -> None:
    """Some rows of an array, by themselves."""
    op = context.anchor
    assert isinstance(op, ops.RowSlice)
    (x,) = context.operands
    (out,) = context.outputs
    assert out is not None
    kernel = Kernel("row_slice", "Rows of an array.")
    _pointers(kernel, x=x, out=out)
    grid = _begin(context, kernel, math.prod(out.shape))
    kernel.integer("START", op.start * math.prod(x.shape[1:]), 64)
    kernel.write("\n".join([_load("x", "START + at"), _store("out", "x_")]))
    context.add(kernel, grid)


# Selected, not a minimum and maximum, so that NaN stays NaN.
CLIP = [
    "inside = tl.where(updated > 1.0, 1.0, tl.where(updated < -1.0, -1.0, updated))",
    "updated = tl.where((at >= CLIPPED_FROM) & (at < CLIPPED_TO), inside, updated)",
]


def emit_sgd_update(context: Context) -> None:
    """SGD with momentum over the whole arena; decay ends at one boundary."""
    op = context.anchor
    assert isinstance(op, ops.SgdUpdate)
    p, g, v = context.operands
    new_p, new_v = context.outputs
    kernel = Kernel("sgd_update", "One step of SGD with momentum and weight decay over all parameters.")
    _pointers(kernel, p=p, g=g, v=v, new_p=new_p, new_v=new_v)
    for name in ("lr", "momentum", "weight_decay", "loss_scale"):
        kernel.runtime(name)
    kernel.integer("DECAYED", op.decayed, 64, hint=False)
    clips = op.clipped[0] < op.clipped[1]
    if clips:
        kernel.integer("CLIPPED_FROM", op.clipped[0], 64, hint=False)
        kernel.integer("CLIPPED_TO", op.clipped[1], 64, hint=False)
    grid = _begin(context, kernel, math.prod(p.shape))
    lines = [
        _load("p"),
        _load("g"),
        _load("v"),
        "gradient = g_ / loss_scale + tl.where(at < DECAYED, weight_decay, 0.0) * p_",
        "velocity = momentum * v_ + gradient",
    ]
    if new_p is not None:
        lines += ["updated = p_ - lr * velocity", *(CLIP if clips else []), _store("new_p", "updated")]
    if new_v is not None:
        lines.append(_store("new_v", "velocity"))
    kernel.write("\n".join(lines))
    context.add(kernel, grid)


def emit_cast_arena(context: Context) -> None:
    """The 16-bit copy of all parameters."""
    (p,) = context.operands
    (out,) = context.outputs
    kernel = Kernel("cast_arena", "Round all parameters to the compute dtype.")
    _pointers(kernel, p=p, out=out)
    grid = _begin(context, kernel, math.prod(p.shape))
    kernel.write("\n".join([_load("p"), _store("out", "p_")]))
    context.add(kernel, grid)


def emit_zeros(context: Context) -> None:
    """Zeros, for a gradient that nothing reaches."""
    (out,) = context.outputs
    assert out is not None
    if out.batched:
        _zero_tiles(context, out)
        return
    kernel = Kernel("zeros", "Fill with zeros.")
    _pointers(kernel, out=out)
    grid = _begin(context, kernel, math.prod(out.shape))
    kernel.write(_store("out", "tl.full((BLOCK,), 0.0, tl.float32)"))
    context.add(kernel, grid)


def _zero_tiles(context: Context, out: Buffer) -> None:
    """Row by row, since a row may be a slice of a longer one."""
    kernel = Kernel("zero_rows", "Fill the channels of each pixel with zeros.")
    rows, channels = rows_of(out), out.shape[-1]
    operand(kernel, "out", out)
    begin_tile(context, kernel, rows, channels)
    kernel.write(f"out_row = {rows.offsets('out')}")
    kernel.write("out_at = out + out_row[:, None] + channel[None, :]")
    zeros = "tl.zeros((BM, BN), out.dtype.element_ty)"
    kernel.write(f"tl.store(out_at, {zeros}, mask=live[:, None] & channel_live[None, :])")
    context.add(kernel, rows.programs(context.tile.m, column_tiles(context, channels)))
