"""Every activation in PyTorch, with its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional


class _StraightThrough(torch.autograd.Function):
    """1 from the threshold on, else -1; the gradient passes within ``reach`` of it (Hubara 2016)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, threshold: float, reach: float) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.threshold, ctx.reach = threshold, reach
        return torch.where(x >= threshold, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        return dy * ((x - ctx.threshold).abs() <= ctx.reach), None, None


def sign(x: torch.Tensor, threshold: float = 0.0, reach: float = float("inf")) -> torch.Tensor:
    result: torch.Tensor = _StraightThrough.apply(x, threshold, reach)
    return result


# kind -> f(x, alpha)
ACTIVATIONS: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "relu": lambda x, alpha: torch.relu(x),
    "tanh": lambda x, alpha: torch.tanh(x),
    "sigmoid": lambda x, alpha: torch.sigmoid(x),
    "leaky_relu": functional.leaky_relu,
    "elu": functional.elu,
    "scaled_tanh": lambda x, alpha: 1.7159 * torch.tanh(2 * x / 3),
    "hard_sigmoid": lambda x, alpha: (0.2 * x + 0.5).clamp(0, 1),
    "softsign": lambda x, alpha: functional.softsign(x),
    "sign": lambda x, alpha: sign(x, alpha, 1.0),
    "sqrt": lambda x, alpha: x.sqrt(),
    "inverse_deviation": lambda x, alpha: 1 / x.sqrt().clamp(min=alpha),
}
# What tests take; 0 elsewhere.
ALPHA = {"leaky_relu": 0.125, "elu": 0.75, "sign": 0.25, "inverse_deviation": 0.5}
POSITIVE = ("sqrt", "inverse_deviation")  # functions of x >= 0


def reference(kind: str, x: torch.Tensor) -> torch.Tensor:
    """f(x) with the alpha that tests take."""
    return ACTIVATIONS[kind](x, ALPHA.get(kind, 0.0))
