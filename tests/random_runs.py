"""One compiled network against its double in PyTorch, over batch sizes and kinds of runs in random order."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cnnc.api.network import Network
from cnnc.ir.model import Model
from cnnc.ir.plan import Space
from cnnc.runtime.arrays import Array
from tests.torch_builder import TorchNetwork

Results = dict[str, list[Array]]  # by name: ours, PyTorch's in float64, and in float32 if we round too

ROUNDING = 8  # times PyTorch's own error in float32 is no error of ours
# Gradients are compared on the scale of the largest: what cancels (a bias before a batch norm) is rounding alone.
FLOOR, FLOOR_OF_ROUNDED = 1e-3, 0.1


@dataclass(frozen=True)
class Difference:
    """One result that is off: the largest relative error of a run."""

    run: str
    name: str
    error: float


class Pair:
    """Our network and PyTorch's, started from the same random weights."""

    def __init__(self, model: Model, device: str, dtype: str, seed: int) -> None:
        self.model = model
        self.rng = np.random.default_rng(seed)
        self.net = Network(model, device=device, dtype=dtype, training=True, seed=seed)
        state = {name: self._drawn(name, value) for name, value in self.net.state_dict().items()}
        self.net.load_state_dict(state)
        # In float32 PyTorch's own rounding errors show how far a result can be known.
        kinds = [torch.float64] if dtype == "float64" else [torch.float64, torch.float32]
        self.twins = [TorchNetwork(model, state, seed, kind) for kind in kinds]

    def _drawn(self, name: str, value: Array) -> Array:
        """Weights that do not vanish, and statistics of no special value; exact in float32."""
        if name.endswith("running_var"):
            value = self.rng.uniform(0.5, 2.0, value.shape)
        elif value.ndim == 1:
            value = value + self.rng.uniform(-0.5, 0.5, value.shape)
        return self.exactly(value)

    def exactly(self, array: Array) -> Array:
        return np.asarray(array).astype(np.float32).astype(np.float64)

    def images(self, n: int) -> Array:
        return self.exactly(self.rng.standard_normal((n, *self.net.input_shape)))

    def labels(self, n: int) -> Array:
        return self.rng.integers(0, self.net.classes, (n, *self.net.label_shape))

    def reset(self) -> None:
        """PyTorch starts from our present state, so that errors of earlier steps do not add up."""
        for twin in self.twins:
            for name, value in self.net.state_dict().items():
                with torch.no_grad():
                    twin.state[name].copy_(torch.tensor(value))

    # -- runs, each giving results by name: ours, and each twin's ------------------------------------

    def infer(self, n: int) -> Results:
        x = self.images(n)
        return _joined({"output": self.net(x)}, [{"output": twin.run(x, training=False)} for twin in self.twins])

    def forward(self, n: int) -> Results:
        x = self.images(n)
        ours = {"output": self.net(x, training=True)}
        return self._with_state(ours, [{"output": twin.run(x, training=True)} for twin in self.twins])

    def loss(self, n: int) -> Results:
        x, target = self.images(n), self.labels(n)
        loss, grads = self.net.loss_and_grads(x, target)
        theirs = [twin.loss(x, target) for twin in self.twins]
        return self._with_state(
            {"loss": np.array(loss), **grads}, [{"loss": np.array(value), **found} for value, found in theirs]
        )

    def vjp(self, n: int) -> Results:
        x, dy = self.images(n), self.exactly(self.rng.standard_normal((n, *self.net.output_shape)))
        dx, grads = self.net.vjp(x, dy)
        theirs = [twin.vjp(x, dy) for twin in self.twins]
        return self._with_state({"dinput": dx, **grads}, [{"dinput": value, **found} for value, found in theirs])

    def step(self, n: int) -> Results:
        x, target = self.images(n), self.labels(n)
        loss = self.net.train_step(x, target)
        return self._with_state(
            {"loss": np.array(loss)}, [{"loss": np.array(twin.train_step(x, target))} for twin in self.twins]
        )

    def _with_state(self, ours: dict[str, Array], theirs: list[dict[str, Array]]) -> Results:
        states = [self.net.state_dict(), *(twin.values() for twin in self.twins)]
        for results, state in zip([ours, *theirs], states, strict=True):
            results.update({f"state {name}": value for name, value in state.items()})
        return _joined(ours, theirs)

    def kinds(self) -> list[Callable[[int], Results]]:
        return [self.infer, self.forward, self.vjp, self.loss, self.step]


def _joined(ours: Mapping[str, Array], theirs: list[dict[str, Array]]) -> Results:
    assert all(list(one) == list(ours) for one in theirs)
    return {name: [value, *(one[name] for one in theirs)] for name, value in ours.items()}


def poison(net: Network) -> None:
    """NaN in all memory that a run must write before it reads: work, gradients, outputs, scratch."""
    session: Any = net._session
    blocks = [session._work[1], session._shared.get(Space.GRADS)]
    blocks += [block for (_, key), (_, block) in session._io.items() if str(key).startswith("output:")]
    for _, executor, _ in session._plans.values():
        if hasattr(executor, "_scratch"):
            blocks.append(executor._scratch._block)
    for block in blocks:
        if block is not None:
            block[...] = 0xFF


def errors(results: Results) -> dict[str, float]:
    """Relative L2 by name; gradients share a floor, so that what should cancel to 0 may be rounding."""
    wanted = {name: values[1] for name, values in results.items()}
    largest = max((float(np.linalg.norm(want)) for name, want in wanted.items() if _is_gradient(name)), default=0.0)
    found = {}
    for name, (got, want, *rounded) in results.items():
        assert got.shape == want.shape, (name, got.shape, want.shape)
        # Far below any floor there is only rounding: losses of sure answers, gradients of flat networks.
        floor = (FLOOR_OF_ROUNDED if rounded else FLOOR) * largest if _is_gradient(name) else FLOOR * want.size**0.5
        difference = _norm(got, want)
        slack = ROUNDING * _norm(rounded[0], want) if rounded else 0.0
        error = max(0.0, difference - slack) / max(float(np.linalg.norm(want)), floor, 1e-6)
        found[name] = error if np.isfinite(difference) else float("inf")
    return found


def _is_gradient(name: str) -> bool:
    return name not in ("output", "loss") and not name.startswith("state ")


def _norm(a: Array, b: Array) -> float:
    return float(np.linalg.norm(a.astype(np.float64) - b.astype(np.float64)))


def worst(
    pair: Pair, sizes: tuple[int, ...], seed: int, *, resets: bool = False, only: tuple[str, ...] = ()
) -> Difference:
    """Every kind of run (or ``only`` some) at every size, in random order, over poisoned memory."""
    rng = random.Random(seed)
    plans = [(kind, n) for kind in pair.kinds() for n in sizes if not only or kind.__name__ in only]
    rng.shuffle(plans)
    result = Difference("", "", 0.0)
    for kind, n in plans:
        if resets:
            pair.reset()
        poison(pair.net)
        for name, error in errors(kind(n)).items():
            if not error <= result.error:
                result = Difference(f"{kind.__name__} of {n}", name, error)
    return result
