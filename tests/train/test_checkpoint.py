"""Checkpoints: what goes in comes out, and damaged files are one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from cnnc.errors import UsageError
from cnnc.train import Epoch, checkpoint_of, fit, load_checkpoint, load_weights, restore, save_checkpoint
from tests.train.softmax_regression import SoftmaxRegression
from tests.train.test_loop import CLASSES, SHAPE, dataset


def trained(epochs: int) -> tuple[SoftmaxRegression, tuple[Epoch, ...]]:
    net = SoftmaxRegression(SHAPE, CLASSES)
    return net, fit(net, dataset(), epochs=epochs, batch_size=16, seed=7)


def saved(folder: Path, epochs: int = 2) -> Path:
    net, history = trained(epochs)
    path = folder / "last.safetensors"
    save_checkpoint(path, checkpoint_of(net, seed=7, batch_size=16, data="test", history=history))
    return path


def test_a_run_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(saved(tmp_path))
    resumed = SoftmaxRegression(SHAPE, CLASSES)
    restore(resumed, checkpoint)
    assert (checkpoint.seed, checkpoint.batch_size, checkpoint.data, resumed.step) == (7, 16, "test", 6)
    fit(resumed, dataset(), epochs=4, batch_size=16, seed=checkpoint.seed, history=checkpoint.history)
    whole, _ = trained(4)
    assert np.array_equal(resumed.state_dict()["fc.weight"], whole.state_dict()["fc.weight"])
    assert resumed.step == whole.step


def test_a_checkpoint_is_a_weights_file_too(tmp_path: Path) -> None:
    path = saved(tmp_path)
    assert set(load_file(path)) == {"fc.weight", "optimizer:fc.weight"}
    assert set(load_weights(path)) == {"fc.weight"}


def test_weights_that_are_not_finite_are_named(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a.weight": np.zeros(2, np.float32), "b.weight": np.array([1, np.nan], np.float32)}, path)
    with pytest.raises(UsageError, match=r"b\.weight holds numbers that are not finite"):
        load_weights(path)


def test_weights_alone_are_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a.weight": np.zeros(2, np.float32)}, path)
    with pytest.raises(UsageError, match="weights without a training run's records; it can't be resumed"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"w\.safetensors: "):
        load_checkpoint(path)


def test_missing_files_are_os_errors_with_their_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        load_weights(tmp_path / "none.safetensors")
    assert caught.value.filename == str(tmp_path / "none.safetensors")
