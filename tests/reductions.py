"""How much smaller the published networks are made for comparisons, and a program's text made smaller alike."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cnnc.frontend import expand, load, read_source
from cnnc.ir.model import Model
from cnnc.source import Source
from tests.facts import FACTS
from tests.torch_parts import EPS, FULL, Reduction

MODELS = Path(__file__).resolve().parent.parent / "models"

# By the start of the id; the first that fits holds. Divisors divide every width that meets a sum of widths.
# Images stay as large as the last pool with a fixed window needs; odd ones and their halves keep the paddings' pattern.
REDUCTIONS: dict[str, Reduction] = {
    "lenet": FULL,
    "xo_": FULL,
    "x_or_o": FULL,
    "wavenet": FULL,
    "convnet": FULL,
    "mnist_9": FULL,
    "mnist_ffnn": Reduction(4),
    "two_layer": Reduction(4),
    "fully_connected": Reduction(4),
    "fashion": Reduction(8),
    "alexnet_table224": Reduction(16, (96, 96, 3)),
    "alexnet": Reduction(16, (115, 99, 3)),
    "zfnet": Reduction(16, (102, 98, 3)),
    "vgg": Reduction(16, (64, 32, 3)),
    "nin_cifar10": Reduction(16, (27, 32, 3)),
    "nin_imagenet": Reduction(16, (99, 107, 3)),
    "googlenet": Reduction(32, (224, 224, 3), floor=2),
    "inception_naive": Reduction(8, (9, 7, 256)),
    "inception_reduced": Reduction(8, (9, 7, 256)),
    "inception_resnet": Reduction(16, (107, 91, 3)),
    "inception": Reduction(16, (107, 91, 3)),
    "resnet20": Reduction(2, (16, 16, 3)),
    "plain20": Reduction(2, (16, 16, 3)),
    "resnet34": Reduction(16, (64, 64, 3)),
    "resnet18": Reduction(16, (64, 64, 3)),
    "plain34": Reduction(16, (64, 64, 3)),
    "resnet50": Reduction(16, (64, 64, 3)),
    "resnet101": Reduction(16, (64, 64, 3)),
    "resnet152": Reduction(16, (64, 64, 3)),
    "resnet": Reduction(4, (16, 16, 3)),
    "plain": Reduction(4, (16, 16, 3)),
    "densenet121": Reduction(8, (64, 64, 3)),
    "densenet_bc100": Reduction(6, (16, 16, 3), floor=2),
    "densenet": Reduction(4, (16, 16, 3), floor=3),
    "xception": Reduction(8, (75, 75, 3)),
    "alphago": Reduction(16),
    "fcn": Reduction(32, (40, 33, 3), floor=2),
    "binarynet_cifar10": Reduction(16, (16, 16, 3)),
    "binarynet_mnist": Reduction(64),
    "layer_5x5_200maps": Reduction(8, (20, 30, 3)),
    "layer_fc_equiv": Reduction(64),
    "layer": Reduction(8),
}


def reduction_of(network: str) -> Reduction:
    return next(reduction for start, reduction in REDUCTIONS.items() if network.startswith(start))


def everyday(names: tuple[str, ...]) -> list[object]:
    """Every published network, as a test's parameter: all but ``names`` are slow."""
    return [name if name in names else pytest.param(name, marks=pytest.mark.slow) for name in FACTS]


def reduced(name: str, eps: float = EPS) -> Model:
    """A published network, narrower and on smaller images."""
    text = reduced_text(expand(load(read_source(MODELS / f"{name}.cnn"))), reduction_of(name), eps)
    return load(Source(f"{name}, reduced", text))


def reduced_text(expanded: str, reduction: Reduction, eps: float = EPS) -> str:
    """A program in explicit statements with the reduced input and widths; dropout keeps everything.

    A larger ``eps`` keeps batch norms from blowing up channels that hardly vary among a few pixels.
    """

    def narrow(found: re.Match[str]) -> str:
        return found[1] + str(reduction.width(int(found[2])))

    text = re.sub(r"=> [0-9x]+", "", expanded)
    text = re.sub(r"\b((?:conv|deconv|sepconv|fc|rbf) |groups=|width=)([0-9]+)\b(?!x)", narrow, text)
    text = re.sub(r"\bdropout [0-9.e-]+", "dropout 0", text)
    if eps != EPS:
        text = re.sub(r"\beps=[0-9.e-]+", f"eps={eps}", text.replace("\n\n", f"\nBN: eps={eps}\n\n", 1))
    if reduction.image is not None:
        text = re.sub(r"(?m)^input .*$", "input " + "x".join(map(str, reduction.image)), text)
    return text
