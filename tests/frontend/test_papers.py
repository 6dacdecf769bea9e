"""Programs as a reader of the papers writes them, in every style; totals as published or counted by hand.

Local response normalisation is left out: it has no parameters and no multiply-adds.
"""

from __future__ import annotations

import pytest

from cnnc.frontend import expand, format_source, load
from cnnc.report.summary import summarize
from cnnc.source import Source

ALEXNET_SLIDE = """
input 227x227x3
CONV: same
POOL: 3x3/2
Order: C11/4 P C5 P C3 C3 C3 P FDFDS
Nf: 96 256 384 384 256 4096
classes: 1000
"""

ALEXNET_GROUPED = """
model alexnet  # Krizhevsky et al. 2012, two towers as groups
input 227x227x3
CONV: relu; POOL: 3x3/2
conv 96 11x11/4 => 55x55x96
maxpool => 27x27x96
CONV: same, groups=2, relu
conv 256 5x5; maxpool => 13x13x256
conv 384 3x3 groups=1; conv 384 3x3; conv 256 3x3; maxpool => 6x6x256
FC: relu
fc 4096; dropout; fc 4096; dropout; fc 1000 softmax
"""

ALEXNET_TABLE = """
input 224x224x3
POOL: f=3, s=2
CONV: same, relu
conv 96 11x11/4 pad=(3,4,3,4) => 56x56x96
maxpool => 27x27x96
conv 256 5x5
maxpool => 13x13x256
conv 384 f=3; conv 384 f=3; conv 256 f=3 => 13x13x256
fc 2^12 relu; fc 2^12 relu; fc 10^3 softmax
"""

ZFNET = """
input 224x224x3
CONV: relu
POOL: 3x3/2, ceil
conv 96 7x7/2 pad=1 => 110x110x96
maxpool             => 55x55x96
conv 256 5x5/2      => 26x26x256
maxpool             => 13x13x256
CONV: f=3, same, relu
conv 384; conv 384; conv 256
POOL: 3x3/2         # and now without ceil
maxpool             => 6x6x256
FC: relu; DROPOUT: .5
fc 4096; dropout; fc 4096; dropout; fc 1000 softmax
"""

NIN_CIFAR = """
input 32x32x3
CONV: f=1, relu
POOL: 3x3/2, ceil
conv 192 5x5 same; conv 160; conv 96
maxpool => 16x16x96
dropout
conv 192 5x5 same; conv 192; conv 192
avgpool => 8x8x192
dropout
conv 192 3x3 same; conv 192; conv 10
globalavgpool => 10
softmax
"""

NIN_CIFAR_SLIDE = """
input 32x32x3
CONV: 1x1, same
POOL: 3x3/2, ceil
Order: C5CC P D C5CC A D C3CC G
Nf: (192,160,96) 192 (192,192,10)
softmax
"""

DILATED = """
input 33x40x3
CONV: 3x3, same, nobias
conv 8 dilation=1
conv 8 dilation=2
conv 8 dilation=(4,8) => 33x40x8
conv 8 valid dilation=16 => 1x8x8
"""

RECTANGLES = """
input 17x17x8
conv 8 f=(1,7) same  => 17x17x8
conv 8 7x1 same      => 17x17x8
conv 12 1x7/(1,2) pad=(0,3) groups=4 => 17x9x12
avgpool f=(1,9) => 17x1x12
"""

PROGRAMS = {
    "alexnet, two towers": (ALEXNET_GROUPED, 60_965_224, 724_406_816),
    "alexnet, the table at 224": (ALEXNET_TABLE, 201_838_952, 1_278_584_832),
    "zfnet": (ZFNET, 62_357_608, 1_168_032_896),
    "network in network": (NIN_CIFAR, 966_986, 222_486_528),
    "network in network, slide": (NIN_CIFAR_SLIDE, 966_986, 222_486_528),
    "dilated": (DILATED, 9 * (3 * 8 + 3 * 64), 9 * (33 * 40 * (3 * 8 + 2 * 64) + 8 * 64)),
    "rectangles": (RECTANGLES, 2 * (7 * 64 + 8) + 7 * 2 * 12 + 12, 2 * 17 * 17 * 7 * 64 + 17 * 9 * 12 * 2 * 7),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_totals(name: str) -> None:
    text, params, macs = PROGRAMS[name]
    summary = summarize(load(Source(name, text)))
    assert (summary.trainable, summary.macs) == (params, macs)
    for again in (expand(Source(name, text)), format_source(Source(name, text))):
        assert summarize(load(Source(name, again))) == summary


@pytest.mark.parametrize(
    ("word", "weight_layers", "params"),
    [
        ("CP CP CCP CCP CCP", 11, 132_863_336),
        ("CCP CCP CCP CCP CCP", 13, 133_047_848),
        ("CCP CCP CCC1P CCC1P CCC1P", 16, 133_638_952),
        ("CCP CCP CCCP CCCP CCCP", 16, 138_357_544),
        ("CCP CCP CCCCP CCCCP CCCCP", 19, 143_667_240),
    ],
)
def test_vgg_by_letters(word: str, weight_layers: int, params: int) -> None:
    """Simonyan and Zisserman 2015, table 2: 133, 133, 134, 138, 144 million parameters."""
    text = (
        f"input 224x224x3\nCONV: f=3, same\nPOOL: f=2\nOrder: {word} FDFDS\nNf: 64 128 256 512 512 4096\nclasses: 1000"
    )
    summary = summarize(load(Source("vgg", text)))
    assert summary.trainable == params
    assert sum(1 for row in summary.rows if row.macs) == weight_layers


def test_alexnet_in_letters() -> None:
    """`same` pads conv1 too, so its map is 57x57 and not 55x55; the pools bring 28, 13 and 6 of it."""
    rows = summarize(load(Source("alexnet", ALEXNET_SLIDE))).rows
    assert [row.output for row in rows if row.op == "pool"] == [(28, 28, 96), (13, 13, 256), (6, 6, 256)]
    assert [row.name for row in rows][-6:] == ["flatten1", "fc6", "dropout1", "fc7", "dropout2", "fc8"]
