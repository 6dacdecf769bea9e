"""What kernels are called, and what their docstrings say: the words of their parts."""

from __future__ import annotations

from collections.abc import Sequence

from cnnc.ir import ops
from cnnc.ir.ops import Op, Part

LABELS = {
    "bias_add": "bias",
    "p_relu": "prelu",
    "p_relu_grad": "prelu_grad",
    "p_relu_slope_grad": "prelu_slope_grad",
    "batch_norm": "bn",
    "batch_norm_input_grad": "bn_input_grad",
    "batch_norm_stats": "bn_stats",
    "batch_norm_reduce": "bn_reduce",
    "batch_norm_update": "bn_update",
    "batch_norm_scale": "bn_scale",
    "batch_norm_correction": "bn_correction",
    "channel_affine": "affine",
    "conv": "conv_fprop",
    "linear": "linear_fprop",
}


def label(op: Op) -> str:
    """The word an op adds to a kernel's name."""
    if isinstance(op, ops.Activation):
        return op.kind
    if isinstance(op, ops.ActivationGrad):
        return f"{op.kind}_grad"
    return LABELS.get(op.name, op.name)


def words(parts: Sequence[Part]) -> str:
    """Parts in order, for a docstring."""
    return ", ".join(label(part.op).replace("_", " ") for part in parts)
