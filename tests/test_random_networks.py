"""Random programs over all layers and options, run in every way on every host device, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

from cnnc.api.network import Network
from cnnc.frontend import load
from cnnc.runtime import philox
from cnnc.runtime.cpu import (
    activations,
    arena,
    channel,
    columns,
    depthwise,
    norm,
    pool,
    reduce,
    scatter,
    space,
)
from cnnc.source import Source
from tests.random_programs import random_model
from tests.random_runs import Pair, poison, worst

SIZES = (1, 2, 3, 9, 64, 65)  # both ends of the plan's buckets and what lies just behind
DOUBLE, SINGLE, HALF = 1e-8, 1e-5, 2e-2  # relative L2

# What the sweeps found, kept: each gave wrong numbers or an internal error once.
FOUND = {
    "vjp behind a flatten": "input 5x5x2\nconv 3 3x3\nfc 4",
    "dropout between flatten and fc": "input 5x4x3\nflatten\ndropout 0.9\nfc 8 bn",
    "nothing left but dropout": "input 10\ndropout 0.5",
    "the logits are the input": "input 10\nsoftmax",
    "an image of one pixel, only flattened": "input 1x1x5\nflatten\ndropout 0.1",
    "a large depth and many columns": "input 8x8x13\nconv 4 5x5 same nobias",
    "a dead batch norm behind a flatten": "input 3x5x3\nfc 5 bn\nfrom input\nconv 2 1x1",
    "a dead batch norm and a head": "input 4x3x2\nconv 3 1x1 bn\nfrom input\nhead h loss=0.3 { fc 3 }\nfc 3",
}


# Whose roundings to 8 bits do not pile up.
HALVED = (
    "input 1x1x3\nBN: eps=0.1\nfc 24 bn softmax\nsigmoid\nfc 24 bn tanh\ntanh\nfc 4 relu",
    "input 8x2x16\nBN: eps=0.1\nbn\nmaxpool 3x3/3 same=tf",
    "input 11x2x5\nBN: eps=0.1\navgpool 2x2/(2,4) ceil\nbn\nconv 5 2x3 same=tf groups=5 nobias relu\nfc 17 relu",
)


def program(text: str):
    return load(Source("<test>", text))


@pytest.mark.parametrize("seed", range(14))
def test_float64(seed):
    found = worst(Pair(random_model(seed), "cpu", "float64", seed), SIZES, seed)
    assert found.error <= DOUBLE, found


@pytest.fixture
def small_pieces(monkeypatch):
    """Blocks so small that these networks take many: else only large images would."""
    for module in (activations, channel, columns, depthwise, norm, pool, scatter, space):
        monkeypatch.setattr(module, "CHUNK_BYTES", 700)
    monkeypatch.setattr(arena, "CHUNK", 16)
    monkeypatch.setattr(reduce, "BLOCK", 4)
    monkeypatch.setattr(philox, "CHUNK", 64)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("seed", range(2000, 2006))
def test_many_pieces(seed):
    found = worst(Pair(random_model(seed), "cpu", "float64", seed), (1, 3, 65), seed)
    assert found.error <= DOUBLE, found


@pytest.mark.parametrize("seed", range(100, 106))
def test_float32(seed):
    found = worst(Pair(random_model(seed, gentle=True), "cpu", "float32", seed), SIZES, seed, resets=True)
    assert found.error <= SINGLE, found


@pytest.mark.parametrize("seed", range(200, 204))
def test_interpreted(seed):
    model = random_model(seed, gentle=True, work=20_000)
    found = worst(Pair(model, "interpret", "float32", seed), (1, 9), seed, resets=True)
    assert found.error <= SINGLE, found


def test_interpreted_sums_over_many_rows():
    """Added one by one in a single block, they lost two digits here."""
    text = "input 12x12x2\nBN: eps=0.1\nconv 11 1x1/1 pad=(1,0) bn\nmaxpool 5x5 valid ceil"
    found = worst(Pair(program(text), "interpret", "float32", 327), (64,), 327, resets=True, only=("vjp",))
    assert found.error <= SINGLE, found


@pytest.mark.slow  # a minute or two of Triton's interpreter
@pytest.mark.parametrize("seed", range(300, 340))
def test_interpreted_more(seed):
    found = worst(Pair(random_model(seed, gentle=True), "interpret", "float32", seed), SIZES, seed, resets=True)
    assert found.error <= SINGLE, found


@pytest.mark.slow  # minutes of programs
@pytest.mark.parametrize("seed", range(1000, 1300))
def test_float64_more(seed):
    found = worst(Pair(random_model(seed), "cpu", "float64", seed), SIZES, seed)
    assert found.error <= 1e-6, found  # rare programs cancel to that


@pytest.mark.parametrize("device", ["cpu", "interpret"])
@pytest.mark.parametrize("text", FOUND.values(), ids=FOUND.keys())
def test_found_by_sweeps(text, device):
    found = worst(Pair(program(text), device, "float32", 5), (1, 3, 65), 5, resets=True)
    assert found.error <= SINGLE, found


@pytest.mark.parametrize("device", ["cpu", "interpret"])
@pytest.mark.parametrize("seed", range(3))
def test_bfloat16_inference(seed, device):
    found = worst(Pair(program(HALVED[seed]), device, "bfloat16", seed), (1, 9), seed, resets=True, only=("infer",))
    assert found.error <= HALF, found


EVERYTHING = """
input 9x7x3
conv 6 3x3 same bn relu
dropout 0.5
maxpool 2x2
conv 8 3x3 groups=2 tanh
fc 5 softmax
"""


@pytest.mark.parametrize("device", ["cpu", "interpret"])
def test_same_seed_same_bits(device):
    """Weights, losses and outputs, whatever lay in memory before."""
    rng = np.random.default_rng(1)
    x, target = rng.standard_normal((9, 9, 7, 3)).astype(np.float32), rng.integers(0, 5, 9)
    results = []
    for garbage in (False, True):
        net = Network(program(EVERYTHING), device=device, dtype="float32", training=True, seed=11)
        losses = []
        for n in (9, 2, 9):
            if garbage:
                poison(net)
            losses.append(net.train_step(x[:n], target[:n]))
        results.append((losses, {**net.state_dict(), **net.optimizer_state(), "y": net(x)}))
    assert results[0][0] == results[1][0]
    for name, value in results[0][1].items():
        np.testing.assert_array_equal(value, results[1][1][name], err_msg=name)


@pytest.mark.parametrize("device", ["cpu", "interpret"])
def test_an_image_alone_or_among_others(device):
    """Inference of one image does not depend on its company, beyond the order in which sums are taken."""
    net = Network(program(EVERYTHING), device=device, dtype="float32", training=False, seed=2)
    x = np.random.default_rng(2).standard_normal((65, 9, 7, 3)).astype(np.float32)
    together = net(x)
    for index in (0, 30, 64):
        np.testing.assert_allclose(net(x[index : index + 1])[0], together[index], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("device", ["cpu", "interpret"])
def test_dropout_of_an_image_does_not_depend_on_the_batch(device):
    """The mask of image i is that of its place in [N, H, W, C], whatever N."""
    net = Network(program("input 6x5x3\ndropout 0.5\ntanh"), device=device, dtype="float32", training=True, seed=2)
    x = np.ones((65, 6, 5, 3), np.float32)
    whole = net(x, training=True)
    assert 0.45 < (whole == 0).mean() < 0.55
    for n in (1, 7, 9, 64):
        np.testing.assert_array_equal(net(x[:n], training=True), whole[:n])
