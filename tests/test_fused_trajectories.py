"""Sixty steps of training with every fusion follow sixty steps without any, in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cnnc
from cnnc.passes.pipelines import OPTIONAL

MODELS = Path(__file__).parent.parent / "models"
STEPS, CLOSE = 60, 1e-8
SGD = "train { optimizer sgd lr=0.01 momentum=0.9 weight_decay=5e-4 }\n"

DENSENET = (
    "input 12x12x3\nCONV: same, nobias\nconv 8 3x3\n"
    "repeat 3 { concat { | identity | bn relu; conv 16 1x1 bn relu; conv 4 3x3 } }\n"
    "bn relu\nconv 10 1x1\navgpool 2x2\n"
    "repeat 2 { concat { | identity | bn relu; conv 16 1x1 bn relu; conv 4 3x3 } }\n"
    "bn relu\nglobalavgpool\nfc 10 softmax\n"
)


def _text(name: str) -> str:
    text = (MODELS / f"{name}.cnn").read_text(encoding="utf-8")
    return text if "train {" in text else text.replace("input ", SGD + "input ", 1)


PROGRAMS = {
    "lenet5": _text("lenet5"),
    "resnet20_cifar": _text("resnet20_cifar")
    .replace("32x32x3", "16x16x3")
    .replace("=> 32x32x16", "")
    .replace("=> 16x16x32", "")
    .replace("=> 8x8x64", ""),
    "densenet": SGD + DENSENET,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_sixty_steps(name: str) -> None:
    nets = [
        cnnc.compile(PROGRAMS[name], device="cpu", dtype="float64", training=True, seed=5, without=without)
        for without in ((), OPTIONAL)
    ]
    rng = np.random.default_rng(0)
    height, width, channels = nets[0].model.input_shape
    for step in range(STEPS):
        x, target = rng.standard_normal((4, height, width, channels)), rng.integers(0, 10, 4)
        fused, plain = (net.train_step(x, target) for net in nets)
        assert fused == pytest.approx(plain, rel=CLOSE), step
    before, after = (net.state_dict() for net in nets)
    for key, value in before.items():
        assert np.linalg.norm(value - after[key]) <= CLOSE * (1e-3 + np.linalg.norm(value)), key
