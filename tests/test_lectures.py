"""The worked examples of the lectures, with the figures as printed, computed by compiled networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cnnc
from cnnc.api.network import Network
from cnnc.frontend import load, read_source
from cnnc.report.summary import summarize
from cnnc.runtime.arrays import Array

MODELS = Path(__file__).resolve().parent.parent / "models"

KERNEL = np.array([[1, 1, 1], [-1, 1, -1], [-1, 1, 1]])
BACKSLASH = 2 * np.eye(3) - 1
CROSS = np.array([[1, -1, 1], [-1, 1, -1], [1, -1, 1]])
RING = -CROSS


def compiled(program: str | Path, **weights: Array) -> Network:
    """A network in float64 on cpu; weights by name with ``__`` for the dot."""
    net = cnnc.compile(program, device="cpu", dtype="float64", training=True)
    net.load_state_dict({**net.state_dict(), **{name.replace("__", "."): value for name, value in weights.items()}})
    return net


def image(rows: Array | list[list[int]]) -> Array:
    """One image of one channel."""
    return np.asarray(rows, float)[None, :, :, None]


def channel(y: Array, index: int = 0) -> Array:
    return y[0, :, :, index]


# -- convolution ----------------------------------------------------------------------------------


def test_one_product_of_a_filter() -> None:
    net = compiled("input 3x3x1\nconv 1 3x3 nobias", conv1__weight=KERNEL[None, None])
    assert net(image([[2, 2, 1], [2, 0, 1], [2, 1, 2]])).item() == 3


def test_a_map_with_padding() -> None:
    net = compiled("input 5x5x1\nconv 1 3x3 pad=1 nobias", conv1__weight=KERNEL[None, None])
    x = image([[0, 2, 1, 0, 2], [1, 2, 2, 1, 0], [0, 2, 0, 1, 1], [1, 2, 1, 2, 1], [2, 0, 0, 2, 1]])
    wanted = [[1, 4, 0, -4, 1], [3, 4, 1, 4, 1], [4, 9, 3, 5, 0], [3, 0, 2, 5, 0], [5, 2, 3, 5, 2]]
    np.testing.assert_array_equal(channel(net(x)), wanted)


def test_max_pool() -> None:
    net = compiled("input 4x4x1\nmaxpool 2x2/2")
    x = image([[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]])
    np.testing.assert_array_equal(channel(net(x)), [[6, 8], [3, 4]])


@pytest.mark.parametrize(("stride", "pad", "size"), [(1, 0, 5), (2, 0, 3), (1, 1, 7)])
def test_output_sizes(stride: int, pad: int, size: int) -> None:
    assert compiled(f"input 7x7x1\nconv 1 3x3/{stride} pad={pad}").output_shape == (size, size, 1)


@pytest.mark.parametrize("layers", [2, 3])
def test_small_filters_see_as_far_as_large_ones(layers: int) -> None:
    """Two 3x3 see 5x5 and three see 7x7: those pixels, and no others, move the middle of the last map."""
    net = compiled("input 11x11x1\n" + "conv 1 3x3 same nobias\n" * layers)
    dy = np.zeros((11, 11))
    dy[5, 5] = 1
    dx, _ = net.vjp(image(np.ones((11, 11))), image(dy))
    reach = np.zeros((11, 11), bool)
    reach[5 - layers : 6 + layers, 5 - layers : 6 + layers] = True
    np.testing.assert_array_equal(channel(dx) != 0, reach)


def test_winograd_in_one_dimension() -> None:
    """F(2,3): two outputs of a filter of three from four products."""
    rng = np.random.default_rng(0)
    d, g = rng.standard_normal(4), rng.standard_normal(3)
    m = [(d[0] - d[2]) * g[0], (d[1] + d[2]) * g.sum() / 2, (d[2] - d[1]) * (g[0] - g[1] + g[2]) / 2]
    m.append((d[1] - d[3]) * g[2])
    y = compiled("input 4x1\nconv 1 f=3 nobias", conv1__weight=g[None, None])(d[None, :, None])
    np.testing.assert_allclose(y[0, :, 0], [m[0] + m[1] + m[2], m[1] - m[2] - m[3]], rtol=1e-12)


def test_winograd_in_two_dimensions() -> None:
    """F(2x2,3x3): 16 products in place of 36."""
    rng = np.random.default_rng(1)
    d, g = rng.standard_normal((4, 4)), rng.standard_normal((3, 3))
    B = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]).T
    G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    A = np.array([[1, 1, 1, 0], [0, 1, -1, -1]]).T
    y = compiled("input 4x4x1\nconv 1 3x3 nobias", conv1__weight=g[None, None])(image(d))
    np.testing.assert_allclose(channel(y), A.T @ ((G @ g @ G.T) * (B.T @ d @ B)) @ A, rtol=1e-11)


# -- X or O ---------------------------------------------------------------------------------------

# As printed, digits cut off behind the second.
POOLED = {
    "\\": [[1, 0.33, 0.55, 0.33], [0.33, 1, 0.33, 0.55], [0.55, 0.33, 1, 0.11], [0.33, 0.55, 0.11, 0.77]],
    "X": [[0.55, 0.33, 0.55, 0.33], [0.33, 1, 0.55, 0.11], [0.55, 0.55, 0.55, 0.11], [0.33, 0.11, 0.11, 0.33]],
    "/": [[0.33, 0.55, 1, 0.77], [0.55, 0.55, 1, 0.33], [1, 1, 0.11, 0.55], [0.77, 0.33, 0.55, 0.33]],
}
VOTES = [1, 0.55, 0.55, 1, 1, 0.55, 0.55, 0.55, 0.55, 1, 1, 0.55]


def large_x() -> Array:
    """9x9: 1 on both diagonals of the inner 7x7, else -1."""
    inner = 2 * np.maximum(np.eye(7), np.eye(7)[::-1]) - 1
    return image(np.pad(inner, 1, constant_values=-1))


def cut(y: Array) -> Array:
    """Two digits as the slides print them."""
    return np.trunc(y * 100 + 1e-9) / 100


def test_pooled_maps_of_an_x() -> None:
    filters = compiled(MODELS / "x_or_o.cnn").state_dict()["conv1.weight"]
    for k, pattern in enumerate((BACKSLASH, CROSS, BACKSLASH[::-1])):
        np.testing.assert_allclose(filters[k, 0], pattern / 9, rtol=1e-15)
    net = compiled("input 9x9x1\nconv 3 3x3 nobias relu\nmaxpool 2x2 ceil", conv1__weight=filters)
    for k, (name, wanted) in enumerate(POOLED.items()):
        np.testing.assert_array_equal(cut(channel(net(large_x()), k)), wanted, err_msg=name)


@pytest.mark.parametrize("pair", range(6))
def test_votes_of_an_x(pair: int) -> None:
    """The dense layer reads the votes out, two at a time."""
    net = compiled(MODELS / "x_or_o.cnn", fc1__weight=np.eye(12)[2 * pair : 2 * pair + 2])
    np.testing.assert_array_equal(cut(net(large_x()))[0], VOTES[2 * pair : 2 * pair + 2])


CODES = {"X": "+--+-++-", "O": "-++-+--+", "/": "-----++-", "\\": "+--+----"}
PICTURES = {"X": CROSS, "O": RING, "/": BACKSLASH[::-1], "\\": BACKSLASH}
SCORES = [[8, -8, 4, 4], [-8, 8, -4, -4], [4, -4, 8, 0], [4, -4, 0, 8]]


def test_codes_of_the_slash_toy() -> None:
    net = compiled(MODELS / "xo_slash_toy.cnn")
    first = net.state_dict()["conv1.weight"]
    np.testing.assert_array_equal(first, [[[[1, -1], [-1, 1]]], [[[-1, 1], [1, -1]]]])
    signs = compiled("input 3x3x1\nconv 2 2x2 nobias\nsign(4)\nflatten", conv1__weight=first)
    for name, picture in PICTURES.items():
        found = "".join("+" if value > 0 else "-" for value in signs(image(picture))[0])
        assert found == CODES[name], name


def test_scores_of_the_slash_toy() -> None:
    """Its own class 8, X against O -8, slashes against each other 0."""
    pictures = np.concatenate([image(picture) for picture in PICTURES.values()])
    np.testing.assert_array_equal(compiled(MODELS / "xo_slash_toy.cnn")(pictures), SCORES)


# -- counts ---------------------------------------------------------------------------------------


def test_connections_of_lenet5() -> None:
    """In the paper a bias is a connection of every unit; the codes of the output have none."""
    taps = 4
    found = {}
    for row in summarize(load(read_source(MODELS / "lenet5_1998.cnn"))).rows:
        units = int(np.prod(row.output))
        products = taps * units if row.op == "subsample" else row.macs
        found[row.name] = products + units * (row.op in ("conv", "subsample", "dense"))
    wanted = {"C1": 122_304, "S2": 5_880, "C3": 151_600, "S4": 2_000, "C5": 48_120, "F6": 10_164, "OUT": 840}
    assert {name: count for name, count in found.items() if count} == wanted
    assert sum(found.values()) == 340_908


def test_values_and_weights_of_vgg16() -> None:
    """The rows of the lecture's table, weights without biases; its own total of 24M values is no sum of them."""
    rows = summarize(load(read_source(MODELS / "vgg_d.cnn"))).rows
    values = {row.name: row.activation_bytes // 4 for row in rows if row.activation_bytes}
    assert [values[name] for name in ("conv1_1", "pool1", "conv2_2", "conv3_3", "conv4_1", "pool5", "fc6")] == [
        *(3_211_264, 802_816, 1_605_632, 802_816, 401_408, 25_088, 4_096),
    ]
    assert 224 * 224 * 3 + sum(values.values()) == 15_237_608
    weights = {row.name: row.params - row.output[-1] for row in rows if row.params}
    assert (weights["conv1_1"], weights["conv3_1"], weights["fc6"]) == (1_728, 294_912, 102_760_448)
    assert sum(weights.values()) == 138_344_128


def test_receptive_field_of_wavenet() -> None:
    """Kernel 2 with dilations 1, 2, 4, 8 sees 16 steps back, and none ahead."""
    net = compiled(MODELS / "wavenet_small.cnn")
    x = np.random.default_rng(0).standard_normal((1, *net.input_shape))
    dy = np.zeros((1, *net.output_shape))
    dy[0, 40] = np.random.default_rng(1).standard_normal(net.output_shape[1])
    dx, _ = net.vjp(x, dy)
    assert np.flatnonzero(np.abs(dx[0]).sum(1)).tolist() == list(range(25, 41))


def test_the_loss_of_knowing_nothing() -> None:
    """ln 10 = 2.302585 for ten classes and hardly any weights."""
    net = compiled(MODELS / "two_layer_net.cnn")
    rng = np.random.default_rng(0)
    net.load_state_dict({name: 1e-4 * rng.standard_normal(value.shape) for name, value in net.state_dict().items()})
    loss, _ = net.loss_and_grads(rng.standard_normal((20, 3072)), np.arange(20) % 10)
    assert loss == pytest.approx(2.302585, abs=1e-4)
