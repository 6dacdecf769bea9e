"""What the training loop needs of a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
State = Mapping[str, Array]


class Trainable(Protocol):
    """A network that can be trained; ``cnnc.api.Network`` is one.

    Images are ``[N, *input_shape]``, targets int ``[N]`` or a map ``[N, ...]`` with one label per position, outputs
    ``[N, classes]`` or ``[N, ..., classes]``.
    """

    step: int
    """Training steps taken so far; draws the dropout masks."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image, ``(H, W, C)``, or of one sequence, ``(L, C)``."""

    @property
    def classes(self) -> int:
        """Extent of the last axis of the output."""

    @property
    def last_output(self) -> Array:
        """Scores that ``train_step`` computed for its batch before the update; larger is likelier."""

    def train_step(self, x: Array, target: Array) -> float:
        """Forward, backward and update on one batch; the mean loss."""

    def scores(self, x: Array) -> Array:
        """The output in inference mode, such that larger is likelier."""

    def state_dict(self) -> State:
        """Parameters and running statistics by name, in program order."""

    def load_state_dict(self, state: State) -> None:
        """Take over parameters and running statistics."""

    def optimizer_state(self) -> State:
        """The optimiser's running sums by parameter name."""

    def load_optimizer_state(self, state: State) -> None:
        """Take over the optimiser's running sums."""
