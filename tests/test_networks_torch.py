"""Every published network, narrower and on smaller images, against PyTorch: output, and the gradient of everything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pytest
import torch

from cnnc.api.network import Network
from cnnc.report.summary import summarize
from cnnc.runtime.arrays import Array
from tests.facts import FACTS, is_in_head
from tests.random_runs import poison
from tests.reductions import everyday, reduced, reduction_of
from tests.torch_networks import PublishedNetwork
from tests.torch_parts import EPS

DOUBLE, SINGLE = 1e-9, 1e-5  # relative L2 against PyTorch in float64
FLOOR = 0.01  # gradients that cancel to nothing are compared on the scale of the largest
BATCH = 3
DRAWS = 20
RESIDUAL_GAMMA = 0.3  # residual arms add little, as in trained networks; else signals keep their size
# Batch norms over a dozen pixels multiply rounding errors: in float32 this keeps them from it.
GENTLE_EPS = 1.0

# One of each family for every day; the others have the same parts more often.
QUICK = ("lenet5_1998", "alexnet_grouped", "vgg_a", "inception_reduced", "resnet20_cifar", "alphago_policy_k192")
QUICK += ("fcn32s", "wavenet_small", "fully_connected_net", "x_or_o", "xo_slash_toy", "binarynet_mnist")


class Pair:
    """Our network on cpu and PyTorch's in float64, with the same weights and running statistics that fit them."""

    def __init__(self, name: str, dtype: str) -> None:
        self.rng = np.random.default_rng(list(name.encode()))
        self.exact = dtype == "float64"
        self.gamma = RESIDUAL_GAMMA if any(layer["op"] == "add" for layer in FACTS[name]["layers"]) else 1.0
        eps = EPS if self.exact else GENTLE_EPS
        self.net = Network(reduced(name, eps), device="cpu", dtype=dtype, training=True, seed=0)
        self.twin = PublishedNetwork(name, reduction_of(name), eps=eps).double()
        fixed = {spec.name for spec in self.net.model.listed() if not spec.trainable and "running" not in spec.name}
        state = self.net.state_dict()
        self.slots = self.twin.take({key: state[key] if key in fixed else self._drawn(state[key]) for key in state})
        self.twin.settle(torch.tensor(self.images()))
        self.state = {key: rounded(slot.detach().numpy()) for key, slot in self.slots.items()}
        self.net.load_state_dict(self.state)
        self.twin.take(self.state)

    def _drawn(self, value: Array) -> Array:
        """He's scale, so that deep networks neither fade nor grow."""
        if value.ndim == 1:
            return rounded(self.gamma * value + self.rng.uniform(-0.1, 0.1, value.shape))
        if not value.std():
            return value
        return rounded(self.rng.standard_normal(value.shape) * np.sqrt(2 / max(1, np.prod(value.shape[1:]))))

    def images(self) -> Array:
        return rounded(self.rng.standard_normal((BATCH, *self.net.input_shape)))

    def smooth_images(self) -> Array:
        """In float32 the draw farthest from kinks: on their other side a gradient is another, by no one's error."""
        draws = [self.images() for _ in range(1 if self.exact else DRAWS)]
        return max(draws, key=lambda x: self.twin.distance(torch.tensor(x)))

    def differences(self) -> Iterator[tuple[str, float]]:
        """Relative errors by name: inference, training, gradients, moved statistics."""
        x, training = self.images(), self.smooth_images()
        dy = rounded(self.rng.standard_normal((BATCH, *self.net.output_shape)))
        wanted = theirs(self.twin, self.slots, x, training, dy)
        largest = max(norm(want) for name, want in wanted.items() if name.startswith("gradient"))
        for name, found in self.ours(x, training, dy).items():
            want = wanted[name]
            assert found.shape == want.shape
            assert np.isfinite(want).all()
            scale = max(norm(want), FLOOR * largest if name.startswith("gradient") else 0.0)
            yield name, norm(found - want) / scale

    def ours(self, x: Array, training: Array, dy: Array) -> dict[str, Array]:
        results = {"inference": self.net(x), "training": self.net(training, training=True)}
        self.net.load_state_dict(self.state)
        poison(self.net)
        dx, grads = self.net.vjp(training, dy)
        state = self.net.state_dict()
        results.update({f"gradient of {name}": grad for name, grad in grads.items()})
        results.update({name: value for name, value in state.items() if "running" in name})
        return {**results, "gradient of the input": dx}


def theirs(twin: PublishedNetwork, names: Iterable[str], x: Array, training: Array, dy: Array) -> dict[str, Array]:
    with torch.no_grad():
        results = {"inference": twin.eval()(torch.tensor(x)).numpy()}
    given = torch.tensor(training, requires_grad=True)
    y = twin.train()(given)
    (y * torch.tensor(dy)).sum().backward()
    results["training"] = y.detach().numpy()
    for name, slot in zip(names, twin.slots(), strict=True):
        results[f"gradient of {name}"] = gradient(slot)
        results[name] = slot.detach().numpy()
    return {**results, "gradient of the input": gradient(given)}


def norm(array: Array) -> float:
    return float(np.linalg.norm(array))


def rounded(array: Array) -> Array:
    """To float32, so that every precision starts from the same numbers."""
    return np.asarray(array).astype(np.float32).astype(np.float64)


def gradient(tensor: torch.Tensor) -> Array:
    """Zero where nothing depends on it, as on the last residual of WaveNet."""
    return np.zeros(tensor.shape) if tensor.grad is None else tensor.grad.numpy()


def check(name: str, dtype: str, tolerance: float) -> None:
    for what, found in Pair(name, dtype).differences():
        assert found <= tolerance, what


@pytest.mark.parametrize("name", everyday(QUICK))
def test_float64(name: str) -> None:
    check(name, "float64", DOUBLE)


@pytest.mark.parametrize("name", everyday(QUICK))
def test_float32(name: str) -> None:
    check(name, "float32", SINGLE)


@pytest.mark.slow
def test_heads() -> None:
    """GoogLeNet's loss in training: 0.3 of each auxiliary classifier's is added."""
    pair = Pair("googlenet_aux", "float64")
    x, labels = pair.images(), np.array([3, 0, 30])
    found, grads = pair.net.loss_and_grads(x, labels)
    values = pair.twin.train().values(torch.tensor(x))
    losses = [-values[name][range(BATCH), labels].log().mean() for name in (pair.twin.output, *pair.twin.heads)]
    loss = losses[0] + 0.3 * (losses[1] + losses[2])
    loss.backward()
    assert found == pytest.approx(loss.item(), rel=DOUBLE)
    for name, grad in grads.items():
        want = gradient(pair.slots[name])
        assert norm(grad - want) <= DOUBLE * norm(want), name


@pytest.mark.parametrize("name", everyday(QUICK))
def test_shapes_of_the_reduced_network(name: str) -> None:
    """Layer by layer, with shapes that PyTorch finds by running; both reductions are the same."""
    rows = sorted(summarize(reduced(name), train=True).rows, key=lambda row: is_in_head(row.name))
    twin = PublishedNetwork(name, reduction_of(name))
    assert [row.output for row in rows] == [twin.shapes[layer["name"]] for layer in twin.layers]


@pytest.mark.parametrize("name", everyday(QUICK))
def test_the_facts_hold_in_pytorch(name: str) -> None:
    """Shapes and parameter counts of the whole network, replayed without numbers."""
    twin = PublishedNetwork(name, device="meta")
    for number, layer in enumerate(twin.layers):
        assert list(twin.shapes[layer["name"]]) == layer["output"], layer
        assert twin.count(number) == layer["params"], layer
