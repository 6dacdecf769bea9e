"""Models from graphs written by hand, compiled, and compared with torch's gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from cnnc.api.network import Network
from cnnc.ir import ops
from cnnc.ir.graph import Graph
from cnnc.ir.model import Head, Model
from cnnc.ir.training import Sgd, TrainConfig
from cnnc.source import Source
from tests.passes.networks import Builder

DEVICES = [("cpu", "float64", 1e-12), ("cpu", "float32", 1e-6), ("interpret", "float32", 1e-5)]
ON = pytest.mark.parametrize(("device", "dtype", "tolerance"), DEVICES)


def model_of(graph: Graph, heads: Sequence[Head] = (), *, sequence: bool = False) -> Model:
    shape = graph["input"].types[0].shape
    return Model("hand", graph, shape, TrainConfig(optimizer=Sgd(0.1)), Source("<test>", ""), sequence, tuple(heads))


def bias(net: Builder, layer: str) -> None:
    net.op(f"{layer}.add_bias", ops.BiasAdd(), net.vector(f"{layer}.bias"))


def compiled(model: Model, device: str = "cpu", dtype: str = "float64") -> Network:
    return Network(model, device=device, dtype=dtype, training=True, seed=3)


def relative(got: object, want: object) -> float:
    a, b = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert a.shape == b.shape
    return float(np.linalg.norm(a - b) / (np.linalg.norm(b) or 1.0))


def torch_state(net: Network) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value).double().requires_grad_() for name, value in net.state_dict().items()}


def check_gradients(
    net: Network, loss: torch.Tensor, state: dict[str, torch.Tensor], got: tuple, tolerance: float
) -> None:
    loss.backward()
    assert got[0] == pytest.approx(loss.item(), rel=tolerance)
    assert {name for name, spec in ((s.name, s) for s in net.model.listed()) if spec.trainable} == set(got[1])
    for name, value in got[1].items():
        gradient = state[name].grad
        want = np.zeros(value.shape) if gradient is None else gradient.numpy()
        assert relative(value, want) <= tolerance, name
