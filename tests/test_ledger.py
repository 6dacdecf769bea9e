"""What fusion makes of published networks: bytes and kernels by `cnnc explain`, and README's table of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from cnnc.frontend import load, read_source
from cnnc.report.explain import Explained, explain

ROOT = Path(__file__).parent.parent
# Network, batch, training: at most so many gigabytes, and kernels where launches matter.
LIMITS: dict[tuple[str, int, bool], tuple[float, int | None]] = {
    ("resnet50", 128, False): (5.4, 52),
    ("resnet50", 128, True): (34, 250),
    ("googlenet", 128, False): (2.6, 50),
    ("vgg_d", 64, False): (2.75, 18),
    ("densenet121", 128, False): (7, None),
    ("densenet121", 128, True): (29, None),
    ("xception", 32, False): (5.2, None),
    ("inception_resnet_v2", 32, False): (5.3, None),
    ("alexnet", 128, False): (0.6, None),
}


@cache
def explained(name: str, batch: int, train: bool) -> Explained:
    model = load(read_source(ROOT / "models" / f"{name}.cnn"))
    return explain(model, batch=batch, dtype="bfloat16", target="sm_90", train=train)


@pytest.mark.parametrize(("name", "batch", "train"), LIMITS)
def test_fused_networks_stay_within_their_limits(name: str, batch: int, train: bool) -> None:
    gigabytes, kernels = LIMITS[name, batch, train]
    found = explained(name, batch, train).totals
    assert found.bytes <= gigabytes * 1e9
    assert kernels is None or found.kernels <= kernels


def row(name: str, batch: int, train: bool) -> str:
    """A line of README's table."""
    found = explained(name, batch, train)
    what = "training step" if train else "inference"
    cells = [f"{total.bytes / 1e9:.2f} GB, {total.kernels}" for total in (found.alone, found.totals)]
    times = f"{found.alone.roofline_us / 1000:.2f} to {found.totals.roofline_us / 1000:.2f} ms"
    return f"|{name}, {batch} images, {what}|{cells[0]}|{cells[1]}|{times}|"


def test_readme_has_these_numbers() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = [row(*case) for case in LIMITS]
    assert [line for line in lines if line not in text] == []
