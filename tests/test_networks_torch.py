"""Every published network, narrower and on smaller images, against PyTorch: output, and the gradient of everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cnnc.api.network import Network
from cnnc.frontend import expand, load, read_source
from cnnc.report.summary import summarize
from cnnc.runtime.arrays import Array
from cnnc.source import Source
from tests.facts import FACTS
from tests.random_runs import Results, errors, poison
from tests.reductions import reduced_text, reduction_of
from tests.torch_networks import PublishedNetwork

MODELS = Path(__file__).resolve().parent.parent / "models"
DOUBLE, SINGLE = 1e-9, 1e-5  # relative L2
BATCH = 3

# One of each family for every day; the others have the same parts more often.
QUICK = ("lenet5_1998", "alexnet_grouped", "vgg_a", "inception_reduced", "resnet20_cifar", "alphago_policy_k192")
QUICK += ("fcn32s", "wavenet_small", "fully_connected_net", "x_or_o", "xo_slash_toy", "binarynet_mnist")


class Pair:
    """Our network on cpu and PyTorch's, with the same weights and with running statistics that fit them."""

    def __init__(self, name: str, dtype: str) -> None:
        self.rng = np.random.default_rng(list(name.encode()))
        reduction = reduction_of(name)
        text = reduced_text(expand(load(read_source(MODELS / f"{name}.cnn"))), reduction)
        self.model = load(Source(f"{name}, reduced", text))
        self.net = Network(self.model, device="cpu", dtype=dtype, training=True, seed=0)
        # In float32 PyTorch's own rounding errors show how far a result can be known.
        kinds = [torch.float64] if dtype == "float64" else [torch.float64, torch.float32]
        self.twins = [PublishedNetwork(name, reduction).to(kind) for kind in kinds]
        state = {key: self._drawn(value) for key, value in self.net.state_dict().items()}
        self.names = list(state)
        self.twins[0].take(state)
        with torch.no_grad():
            self.twins[0].settle(self._tensor(self.images(), torch.float64))
        self.share(self.values(self.twins[0]))

    def _drawn(self, value: Array) -> Array:
        """He's scale, so that deep networks neither fade nor grow; vectors near what they started from."""
        if value.ndim == 1:
            return exactly(value + self.rng.uniform(-0.3, 0.3, value.shape))
        if not value.std():
            return value
        return exactly(self.rng.standard_normal(value.shape) * np.sqrt(2 / max(1, np.prod(value.shape[1:]))))

    def share(self, state: dict[str, Array]) -> None:
        """Everybody continues from these weights and statistics."""
        rounded = {name: exactly(value) for name, value in state.items()}
        self.net.load_state_dict(rounded)
        for twin in self.twins:
            twin.take(rounded)

    def images(self) -> Array:
        return exactly(self.rng.standard_normal((BATCH, *self.model.input_shape)))

    def values(self, twin: PublishedNetwork) -> dict[str, Array]:
        return {name: slot.detach().numpy().copy() for name, slot in zip(self.names, twin.slots(), strict=True)}

    def _tensor(self, array: Array, kind: torch.dtype) -> torch.Tensor:
        return torch.tensor(array, dtype=kind)

    # -- runs, each giving results by name: ours, and each twin's ------------------------------------

    def output(self, *, training: bool) -> Results:
        x = self.images()
        results = {"output": [self.net(x, training=training)]}
        for twin in self.twins:
            with torch.no_grad():
                y = twin.train(training)(self._tensor(x, next(twin.parameters()).dtype))
            results["output"].append(y.numpy())
        return results

    def gradients(self) -> Results:
        x = self.images()
        dy = exactly(self.rng.standard_normal((BATCH, *self.net.output_shape)))
        before = self.values(self.twins[0])
        poison(self.net)
        dx, grads = self.net.vjp(x, dy)
        state = self.net.state_dict()
        moved = [name for name in state if "running" in name]
        results: Results = {"dinput": [dx], **{name: [grad] for name, grad in grads.items()}}
        results.update({f"state {name}": [state[name]] for name in moved})
        for twin in self.twins:
            twin.take(before)
            given, found = self._backward(twin.train(), x, dy)
            results["dinput"].append(given)
            for name in grads:
                results[name].append(found[name])
            for name in moved:
                results[f"state {name}"].append(self.values(twin)[name])
        return results

    def _backward(self, twin: PublishedNetwork, x: Array, dy: Array) -> tuple[Array, dict[str, Array]]:
        twin.zero_grad()
        kind = next(twin.parameters()).dtype
        given = self._tensor(x, kind).requires_grad_(True)
        (twin(given) * self._tensor(dy, kind)).sum().backward()
        assert given.grad is not None
        slots = zip(self.names, twin.slots(), strict=True)
        found = {name: np.zeros(slot.shape) if slot.grad is None else slot.grad.numpy() for name, slot in slots}
        return given.grad.numpy(), found


def exactly(array: Array) -> Array:
    """Rounded to float32, so that every precision starts from the same numbers."""
    return np.asarray(array).astype(np.float32).astype(np.float64)


def check(name: str, dtype: str, tolerance: float) -> None:
    pair = Pair(name, dtype)
    for run in (lambda: pair.output(training=False), lambda: pair.output(training=True), pair.gradients):
        results = run()
        assert all(np.isfinite(values[1]).all() for values in results.values())
        found = errors(results)
        worst = max(found, key=lambda key: found[key])
        assert found[worst] <= tolerance, (worst, found[worst])


def everyday(names: tuple[str, ...]) -> list[object]:
    return [name if name in names else pytest.param(name, marks=pytest.mark.slow) for name in FACTS]


@pytest.mark.parametrize("name", everyday(QUICK))
def test_float64(name: str) -> None:
    check(name, "float64", DOUBLE)


@pytest.mark.parametrize("name", everyday(QUICK))
def test_float32(name: str) -> None:
    check(name, "float32", SINGLE)


@pytest.mark.parametrize("name", everyday(QUICK))
def test_shapes_of_the_reduced_network(name: str) -> None:
    """Layer by layer, with shapes that PyTorch finds by running; both reductions are the same."""
    reduction = reduction_of(name)
    text = reduced_text(expand(load(read_source(MODELS / f"{name}.cnn"))), reduction)
    rows = summarize(load(Source(f"{name}, reduced", text)), train=True).rows
    twin = PublishedNetwork(name, reduction)
    assert [row.output for row in rows] == [twin.shapes[layer["name"]] for layer in twin.layers]


@pytest.mark.parametrize("name", everyday(QUICK))
def test_the_facts_hold_in_pytorch(name: str) -> None:
    """Shapes and parameter counts of the whole network, replayed without numbers."""
    twin = PublishedNetwork(name, device="meta")
    for number, layer in enumerate(twin.layers):
        assert list(twin.shapes[layer["name"]]) == layer["output"], layer
        assert twin.count(number) == layer["params"], layer
