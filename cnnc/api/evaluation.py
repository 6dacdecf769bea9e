"""How good outputs are: cross-entropy and accuracy, over images or over their positions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnnc.ir import ops
from cnnc.ir.model import Model
from cnnc.runtime.arrays import Array


class Evaluation(NamedTuple):
    """Mean cross-entropy and the share of labels whose class has the best score."""

    loss: float
    accuracy: float


def scores(model: Model, output: Array) -> Array:
    """The output such that larger is likelier: distances from codes are negated."""
    return -output if model.gives_distances else output


def evaluation(model: Model, output: Array, target: Array) -> Evaluation:
    """Of outputs ``[N, ..., C]`` and labels ``[N, ...]``."""
    best = scores(model, output).astype(np.float64)
    if isinstance(model.graph[model.graph.outputs["output"].node].op, ops.Softmax):
        logs = np.log(np.maximum(best, np.finfo(np.float32).tiny))
    else:
        top = best.max(axis=-1, keepdims=True)
        logs = best - top - np.log(np.exp(best - top).sum(axis=-1, keepdims=True))
    truth = np.take_along_axis(logs, target[..., np.newaxis], -1)
    return Evaluation(float(-truth.mean()), float((best.argmax(axis=-1) == target).mean()))
