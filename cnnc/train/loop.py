"""The training loop: shuffled mini-batches, validation after each epoch, and whoever watches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cnnc.errors import CnnError, UsageError
from cnnc.train.data import Dataset, Split
from cnnc.train.protocol import Array, Trainable

EVALUATION_BATCH = 256


class TrainingError(CnnError):
    """Training that can't go on: the loss is no number any more."""


@dataclass(frozen=True)
class Epoch:
    """Results of one epoch, counted from 1; ``seconds`` covers training, not validation."""

    epoch: int
    loss: float
    accuracy: float
    validation_accuracy: float
    seconds: float
    images_per_second: float


@dataclass(frozen=True)
class Progress:
    """Where an epoch stands after a batch: images done, and means over them (over their labels for accuracy)."""

    epoch: int
    images: int
    loss: float
    accuracy: float
    seconds: float

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds if self.seconds > 0 else 0.0


class Watcher(Protocol):
    """Told what happens; a progress bar, a log."""

    def start(self, epochs: int, images: int) -> None:
        """Training begins: number of the last epoch, images per epoch."""

    def batch(self, progress: Progress) -> None:
        """A batch is done."""

    def epoch(self, result: Epoch) -> None:
        """An epoch and its validation are done."""


class Silent:
    """A watcher that shows nothing."""

    def start(self, epochs: int, images: int) -> None:
        """Nothing."""

    def batch(self, progress: Progress) -> None:
        """Nothing."""

    def epoch(self, result: Epoch) -> None:
        """Nothing."""


def fit(
    net: Trainable,
    data: Dataset,
    *,
    epochs: int,
    batch_size: int,
    seed: int = 0,
    history: tuple[Epoch, ...] = (),
    watcher: Watcher | None = None,
    after_epoch: Callable[[tuple[Epoch, ...]], None] | None = None,
) -> tuple[Epoch, ...]:
    """Train up to and including epoch number ``epochs``; what each epoch gave.

    Each epoch takes every image once, in an order that depends on the seed and the epoch's number alone,
    so a run that goes on from ``history`` takes the same batches as one that never stopped. The last
    batch may be smaller. ``after_epoch`` (a checkpoint) is called with the history so far.

    Raises:
        UsageError: epochs or batch size below 1.
        TrainingError: the loss stopped being finite.
    """
    if epochs < 1 or batch_size < 1:
        raise UsageError(f"epochs and batch size must be at least 1, not {epochs} and {batch_size}")
    watcher = watcher or Silent()
    watcher.start(epochs, len(data.train))
    for number in range(len(history) + 1, epochs + 1):
        done = _train_epoch(net, data.train, number, batch_size, seed, watcher)
        accuracy = evaluate(net, data.validation)
        history += (Epoch(number, done.loss, done.accuracy, accuracy, done.seconds, done.images_per_second),)
        watcher.epoch(history[-1])
        if after_epoch is not None:
            after_epoch(history)
    return history


def evaluate(net: Trainable, split: Split, batch_size: int = EVALUATION_BATCH) -> float:
    """Share of labels whose class has the largest score; a label is an image's or a position's."""
    correct = 0
    for start in range(0, len(split), batch_size):
        part = slice(start, start + batch_size)
        correct += _correct(net.scores(split.x[part]), split.y[part])
    return correct / split.y.size


def batches(count: int, batch_size: int, seed: int, epoch: int) -> Iterator[Array]:
    """Indices of each batch of one epoch: a permutation, cut."""
    order = np.random.default_rng([seed, epoch]).permutation(count)
    for start in range(0, count, batch_size):
        yield order[start : start + batch_size]


def _train_epoch(net: Trainable, split: Split, epoch: int, batch_size: int, seed: int, watcher: Watcher) -> Progress:
    started = time.perf_counter()
    images = labels = correct = 0
    total = 0.0
    progress = Progress(epoch, 0, math.nan, 0.0, 0.0)
    for index in batches(len(split), batch_size, seed, epoch):
        batch = split.take(index)
        loss = float(net.train_step(batch.x, batch.y))
        if not math.isfinite(loss):
            raise TrainingError(f"the loss became {loss} in epoch {epoch}, step {net.step}: try a lower lr")
        images += len(batch)
        total += loss * len(batch)
        labels += batch.y.size
        correct += _correct(net.last_output, batch.y)
        progress = Progress(epoch, images, total / images, correct / labels, time.perf_counter() - started)
        watcher.batch(progress)
    return progress


def _correct(scores: Array, target: Array) -> int:
    return int(np.count_nonzero(np.asarray(scores).reshape(*target.shape, -1).argmax(axis=-1) == target))
