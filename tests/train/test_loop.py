"""The training loop on a network small enough to know everything about."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from rich.console import Console

from cnnc.errors import UsageError
from cnnc.train import Dataset, Epoch, Progress, Split, TrainingError, evaluate, fit
from cnnc.train.loop import batches
from cnnc.train.progress import ProgressDisplay
from tests.train.softmax_regression import SoftmaxRegression

CLASSES = 3
SHAPE = (2, 3, 1)


def dataset(count: int = 50, seed: int = 0) -> Dataset:
    """Linearly separable classes."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, *SHAPE)).astype(np.float32)
    y = (x.reshape(count, -1) @ rng.standard_normal((6, CLASSES))).argmax(axis=1).astype(np.int32)
    whole = Split(x, y)
    return Dataset("test", whole.take(np.arange(0, count - 10)), whole.take(np.arange(count - 10, count)))


class Recorder:
    def __init__(self) -> None:
        self.epochs = self.images = 0
        self.seen: list[Progress] = []
        self.results: list[Epoch] = []

    def start(self, epochs: int, images: int) -> None:
        self.epochs, self.images = epochs, images

    def batch(self, progress: Progress) -> None:
        self.seen.append(progress)

    def epoch(self, result: Epoch) -> None:
        self.results.append(result)


def test_every_image_once_per_epoch_and_the_last_batch_smaller() -> None:
    cut = list(batches(10, 4, seed=1, epoch=2))
    assert [len(part) for part in cut] == [4, 4, 2]
    assert sorted(np.concatenate(cut)) == list(range(10))


def test_order_depends_on_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(list(batches(100, 7, seed, epoch))).tolist()

    assert order(1, 1) == order(1, 1)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (1, 2)}) == 4


def test_training_learns_and_tells_the_watcher() -> None:
    net, recorder = SoftmaxRegression(SHAPE, CLASSES), Recorder()
    history = fit(net, dataset(), epochs=30, batch_size=16, watcher=recorder)
    assert (recorder.epochs, recorder.images) == (30, 40)
    assert net.batch_sizes == [16, 16, 8] * 30
    assert net.step == 90
    assert [progress.images for progress in recorder.seen[:3]] == [16, 32, 40]
    assert recorder.results == list(history)
    assert [epoch.epoch for epoch in history] == list(range(1, 31))
    assert history[0].loss == pytest.approx(math.log(CLASSES), rel=0.5)
    assert history[-1].loss < 0.2
    assert history[-1].accuracy >= 0.95
    assert history[-1].validation_accuracy == evaluate(net, dataset().validation)


def test_means_are_weighted_by_batch_size() -> None:
    net = SoftmaxRegression(SHAPE, CLASSES, lr=0.0)
    data = dataset()
    (epoch,) = fit(net, data, epochs=1, batch_size=16)
    assert epoch.loss == pytest.approx(math.log(CLASSES), rel=1e-12)
    assert epoch.accuracy == pytest.approx((data.train.y == 0).mean(), rel=1e-12)


def test_a_run_in_two_parts_is_the_run_in_one() -> None:
    whole, parts = SoftmaxRegression(SHAPE, CLASSES), SoftmaxRegression(SHAPE, CLASSES)
    expected = fit(whole, dataset(), epochs=5, batch_size=16, seed=4)
    history = fit(parts, dataset(), epochs=2, batch_size=16, seed=4)
    history = fit(parts, dataset(), epochs=5, batch_size=16, seed=4, history=history)
    assert np.array_equal(whole.state_dict()["fc.weight"], parts.state_dict()["fc.weight"])
    assert [epoch.loss for epoch in history] == [epoch.loss for epoch in expected]


def test_checkpoints_get_the_history_so_far() -> None:
    lengths: list[int] = []
    fit(
        SoftmaxRegression(SHAPE, CLASSES),
        dataset(),
        epochs=3,
        batch_size=16,
        after_epoch=lambda history: lengths.append(len(history)),
    )
    assert lengths == [1, 2, 3]


def test_evaluation_in_parts_counts_every_image() -> None:
    net = SoftmaxRegression(SHAPE, CLASSES)
    split = dataset().train
    assert {evaluate(net, split, size) for size in (1, 7, 40, 256)} == {float((split.y == 0).mean())}


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
def test_a_loss_that_is_no_number_stops_training() -> None:
    data = dataset()
    huge = Dataset("huge", Split(data.train.x * np.float32(1e38), data.train.y), data.validation)
    with pytest.raises(TrainingError, match=r"the loss became (nan|inf) in epoch 1, step \d+: try a lower lr"):
        fit(SoftmaxRegression(SHAPE, CLASSES, lr=1e300), huge, epochs=3, batch_size=16)


def test_epochs_and_batch_size_are_checked() -> None:
    with pytest.raises(UsageError, match="at least 1, not 1 and 0"):
        fit(SoftmaxRegression(SHAPE, CLASSES), dataset(), epochs=1, batch_size=0)


def test_off_a_terminal_progress_is_one_line_per_epoch() -> None:
    text = io.StringIO()
    with ProgressDisplay(Console(file=text)) as display:
        fit(SoftmaxRegression(SHAPE, CLASSES), dataset(), epochs=2, batch_size=16, watcher=display)
    lines = text.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("epoch 1/2  loss 1.")
    assert "images/s  validation 0." in lines[1]
    assert "\x1b" not in text.getvalue()


def test_on_a_terminal_there_is_a_bar() -> None:
    text = io.StringIO()
    with ProgressDisplay(Console(file=text, force_terminal=True, width=120)) as display:
        fit(SoftmaxRegression(SHAPE, CLASSES), dataset(), epochs=1, batch_size=16, watcher=display)
    assert "epoch 1/1" in text.getvalue()
    assert "40/40" in text.getvalue()
    assert "\x1b" in text.getvalue()
