"""LeNet-5 learns the digits as well as it does elsewhere: ten epochs, mean of five seeds."""

from __future__ import annotations

import numpy as np
import pytest

import cnnc
from cnnc.resources import resource
from cnnc.train import fit, load_data


def accuracy(model: str, seed: int) -> float:
    net = cnnc.compile(resource("models", f"{model}.cnn"), device="cpu", training=True, seed=seed)
    data = load_data("digits", net.input_shape, net.classes, seed=seed)
    config = net.train_config
    return fit(net, data, epochs=config.epochs, batch_size=config.batch, seed=seed)[-1].validation_accuracy


# PyTorch with the same data and settings: 0.981 and 0.983.
@pytest.mark.slow
@pytest.mark.parametrize(("model", "at_least"), [("lenet5", 0.965), ("lenet5_table", 0.98)])
def test_ten_epochs_of_digits(model: str, at_least: float) -> None:
    accuracies = [accuracy(model, seed) for seed in range(5)]
    assert np.mean(accuracies) >= at_least, accuracies
