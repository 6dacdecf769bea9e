"""Numbers given at each run rather than compiled in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scalars:
    """Batch size, random state, loss scale and the optimiser's settings of one run."""

    n: int
    seed: int = 0  # 0 <= seed < 2**63
    step: int = 0  # 0 <= step < 2**31; counts training steps, so that each draws new masks
    loss_scale: float = 1.0
    lr: float = 0.0
    momentum: float = 0.0
    weight_decay: float = 0.0
