"""The smallest network that fits ``Trainable``: softmax regression in numpy, SGD with momentum."""

from __future__ import annotations

import math

import numpy as np

from cnnc.train.protocol import Array, State


class SoftmaxRegression:
    """Zero initial weights, so two of them start equal."""

    def __init__(self, input_shape: tuple[int, ...], classes: int, lr: float = 0.1, momentum: float = 0.9) -> None:
        self.input_shape = input_shape
        self.classes = classes
        self.step = 0
        self.last_output: Array = np.zeros((0, classes))
        self.batch_sizes: list[int] = []
        self._lr, self._momentum = lr, momentum
        self._weight = np.zeros((classes, math.prod(input_shape)))
        self._sum = np.zeros_like(self._weight)

    def scores(self, x: Array) -> Array:
        return x.reshape(len(x), -1) @ self._weight.T

    def train_step(self, x: Array, target: Array) -> float:
        logits = self.scores(x)
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        probability = shifted / shifted.sum(axis=1, keepdims=True)
        rows = np.arange(len(target))
        loss = -np.log(probability[rows, target]).mean()
        probability[rows, target] -= 1
        self._sum = self._momentum * self._sum + probability.T @ x.reshape(len(x), -1) / len(x)
        self._weight = self._weight - self._lr * self._sum
        self.last_output = logits
        self.batch_sizes.append(len(x))
        self.step += 1
        return float(loss)

    def state_dict(self) -> State:
        return {"fc.weight": self._weight}

    def load_state_dict(self, state: State) -> None:
        self._weight = np.array(state["fc.weight"])

    def optimizer_state(self) -> State:
        return {"fc.weight": self._sum}

    def load_optimizer_state(self, state: State) -> None:
        self._sum = np.array(state["fc.weight"])
