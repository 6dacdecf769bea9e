"""``net.memory`` says what a run allocates: block by block, and what numpy asks for in all."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import cnnc
from cnnc.errors import CnnError
from cnnc.runtime import device, session

MODELS = Path(__file__).parent.parent / "models"
SMALL = """model s
input 12x10x3
conv 8 3x3 same bn relu
maxpool 2x2/2
add {
| conv 8 3x3 same
| identity
}
fc 4
softmax"""
# What numpy is asked for beside blocks: sums of channels, a transposed copy inside a product; and Python's objects.
BESIDES = 0.02


def data(net, n):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(n, *net.input_shape)).astype(np.float32)
    return x, draw.integers(0, net.classes, (n, *net.label_shape))


def run(net, n, training):
    x, target = data(net, n)
    return net.train_step(x, target) if training else net(x)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("n", [1, 4, 37])
def test_blocks_are_as_predicted(dtype, training, n, monkeypatch):
    """Every block of a device and of the cpu's scratch memory, while it is kept."""
    net = cnnc.compile(SMALL, device="cpu", dtype=dtype, training=training)
    predicted = net.memory(n, training)
    given = []
    allocate = device.allocate
    monkeypatch.setattr(device, "allocate", lambda nbytes: (given.append(nbytes), allocate(nbytes))[1])
    run(net, n, training)
    # Parameters and statistics have had their blocks since the weights were drawn.
    scratch = sum(executor._scratch.nbytes for _, executor, _ in net._session._plans.values())
    drawn = predicted["params"] + predicted["state"]
    assert sum(given) + scratch + drawn == predicted["total"] - predicted["returned"]
    assert scratch == predicted["scratch"]
    given.clear()
    run(net, n, training)
    assert not given, "a second run takes nothing new"


@pytest.mark.parametrize(
    ("name", "n", "training"),
    [("lenet5", 128, False), ("lenet5", 128, True), ("convnetjs_cifar10", 32, True), ("nin_cifar10", 4, False)],
)
def test_numpy_is_asked_for_no_more(name, n, training):
    net = cnnc.compile(MODELS / f"{name}.cnn", device="cpu", training=training)
    predicted = net.memory(n, training)
    x, target = data(net, n)
    tracemalloc.start()
    try:
        # The loss alone, and then the update: what numpy has taken at most meanwhile.
        _ = net.train_step(x, target) if training else net(x)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    wanted = predicted["total"] - predicted["params"] - predicted["state"]
    assert (1 - BESIDES) * wanted <= peak <= (1 + BESIDES) * wanted + (1 << 17)


def test_scratch_memory_grows_with_the_batch_and_is_predicted_anew(monkeypatch):
    net = cnnc.compile(SMALL, device="cpu", training=True)
    for n in (3, 64, 5):
        run(net, n, training=True)
    executor = net._session._plans["loss"][1]
    schedule = net.plan.schedule(64)
    assert executor._scratch.nbytes == executor.scratch_bytes(schedule, 64)


def test_scratch_memory_of_a_large_batch_is_about_what_it_takes_or_more(monkeypatch):
    net = cnnc.compile(MODELS / "lenet5.cnn", device="cpu", training=True)
    exact = [net.memory(n, training=True)["scratch"] for n in (40, 96)]
    monkeypatch.setattr("cnnc.runtime.cpu.executor.MEASURED", 1 << 18)
    for n, least in zip((40, 96), exact, strict=True):
        assert 0.99 * least <= net.memory(n, training=True)["scratch"] <= 3 * least


def test_a_batch_of_a_billion_is_predicted_at_once():
    net = cnnc.compile(MODELS / "lenet5.cnn", device="cpu")
    assert net.memory(10**9)["total"] > 10**12


@pytest.mark.parametrize("training", [False, True])
def test_too_large_a_batch_is_one_sentence_with_the_bytes(training, monkeypatch):
    net = cnnc.compile(SMALL, device="cpu", training=training)
    total = net.memory(6, training)["total"]

    def refuse(nbytes):
        raise MemoryError

    monkeypatch.setattr(session.Session, "_blocks", lambda *_: refuse(0))
    with pytest.raises(CnnError) as caught:
        run(net, 6, training)
    assert str(caught.value) == f"s with a batch of 6 needs {total:,} bytes, more than there are; take a smaller batch"
