"""The programs of ``examples/``: their papers' totals, no longer than twice their papers' tables, formatted."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from cnnc.cli import main
from cnnc.frontend import load, read_source
from cnnc.report.summary import summarize

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


class Paper(NamedTuple):
    rows: int  # of its table; U-Net's are the convolutions of its figure
    trainable: int
    moving: int
    macs: int | None = None


def densenet_bc(layers: int, growth: int, classes: int) -> int:
    """Parameters of DenseNet-BC on CIFAR, by the paper's text."""
    channels = 2 * growth
    total = 3 * 9 * channels
    for block in range(3):
        for _ in range(layers):
            bottleneck = 4 * growth
            total += 2 * channels + channels * bottleneck + 2 * bottleneck + 9 * bottleneck * growth
            channels += growth
        if block < 2:
            total += 2 * channels + channels * (channels // 2)
            channels //= 2
    return total + 2 * channels + channels * classes + classes


def u_net(channels: int, classes: int) -> int:
    """Parameters of U-Net's figure, with biases."""
    total = 0
    for width in (64, 128, 256, 512, 1024):
        total += 9 * channels * width + width + 9 * width * width + width
        channels = width
    for width in (512, 256, 128, 64):
        total += 4 * 2 * width * width + width
        total += 9 * 2 * width * width + width + 9 * width * width + width
    return total + 64 * classes + classes


PAPERS = {
    "densenet_small": Paper(8, 176_122, 5_088),
    "mobilenet_v1": Paper(17, 4_231_976, 4_253_864 - 4_231_976, 568_740_352),
    "squeezenet": Paper(14, 1_248_424, 0),
    "unet": Paper(23, 31_030_658, 0),
}


def test_every_example_is_held_against_its_paper() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.cnn")} == set(PAPERS)


def test_hand_counts() -> None:
    assert densenet_bc(6, 12, 10) == PAPERS["densenet_small"].trainable
    assert u_net(1, 2) == PAPERS["unet"].trainable


@pytest.mark.parametrize("name", PAPERS)
def test_totals(name: str) -> None:
    summary = summarize(load(read_source(EXAMPLES / f"{name}.cnn")))
    paper = PAPERS[name]
    assert (summary.trainable, summary.non_trainable, summary.fixed) == (paper.trainable, paper.moving, 0)
    if paper.macs is not None:
        assert summary.macs == paper.macs


@pytest.mark.parametrize("name", PAPERS)
def test_as_short_as_its_table_and_formatted(name: str) -> None:
    path = EXAMPLES / f"{name}.cnn"
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    statements = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    assert len(statements) <= 2 * PAPERS[name].rows
    assert main(["fmt", "--check", str(path)]) == 0
