"""What a program's ``train`` block says, with the defaults of what it leaves out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent as PyTorch has it; weight decay is added to the gradient."""

    lr: float = 0.01
    momentum: float = 0.0
    weight_decay: float = 0.0


@dataclass(frozen=True)
class TrainConfig:
    """Loss, optimiser, batch size and epochs."""

    loss: str = "cross_entropy"
    optimizer: Sgd = Sgd()
    batch: int = 32
    epochs: int = 10
