"""Any published network as a PyTorch module, interpreted from its facts: NCHW inside, our layouts and weights outside.

Shares nothing with the compiler, its models or their texts: layers, connections and settings come from
``data/networks.json``, shapes from PyTorch itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from cnnc.runtime.arrays import Array
from tests.facts import FACTS, is_in_head
from tests.torch_parts import (
    ACTIVATIONS,
    EPS,
    FULL,
    KINKS,
    MOMENTUM,
    PLAIN,
    Conv,
    Deconv,
    Dense,
    Layer,
    Norm,
    Rbf,
    Reduction,
    Subsample,
)


class PublishedNetwork(nn.Module):
    """The network ``name`` of the facts, reduced. Weights are those that ``take`` takes over."""

    def __init__(self, name: str, reduction: Reduction = FULL, *, eps: float = EPS, device: str = "cpu") -> None:
        super().__init__()
        self.eps = eps
        self.facts = FACTS[name]
        self.reduction = reduction
        self.binary = name.startswith("binarynet")
        self.shape = tuple(reduction.image or self.facts["input"])
        self.layers: list[Layer] = self.facts["layers"]
        self.margin = torch.tensor(torch.inf)
        self.parts = nn.ModuleDict()  # what has parameters, by a layer's number
        read = {name for layer in self.layers for name in layer["inputs"]}
        ends = [layer["name"] for layer in self.layers if layer["name"] not in read]
        self.heads = [name for name in ends if is_in_head(name)]
        self.output = [name for name in ends if not is_in_head(name)][-1]
        with torch.device(device), torch.no_grad():
            values = self._run(self._nchw(torch.zeros(2, *self.shape)), grow=True)
        self.shapes = {name: _last(value.shape[1:]) for name, value in values.items()}

    # -- running ----------------------------------------------------------------------------------

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, H, W, C]`` (or ``[N, L, C]``, ``[N, C]``) to the same of the last layer that is no head's."""
        return self.values(x)[self.output]

    def values(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every layer's output, channels last."""
        return {name: _nhwc(value) for name, value in self._run(self._nchw(x)).items()}

    def _run(self, x: torch.Tensor, *, grow: bool = False) -> dict[str, torch.Tensor]:
        values = {"input": x}
        for number, layer in enumerate(self.layers):
            given = [values[name] for name in layer["inputs"]]
            if grow and (part := self._part(layer, given[0])) is not None:
                self.parts[str(number)] = part
            y = self._compute(number, layer, given, values)
            if layer.get("activation") in KINKS:
                closest = (y - KINKS[layer["activation"]]).abs().min() / y.square().mean().sqrt()
                self.margin = torch.minimum(self.margin.to(closest), closest)
            values[layer["name"]] = ACTIVATIONS[layer["activation"]](y) if "activation" in layer else y
        return values

    def _part(self, layer: Layer, x: torch.Tensor) -> nn.Module | None:
        makers: dict[str, Callable[[], nn.Module]] = {
            "conv": lambda: Conv(layer, x, self.reduction, self.binary),
            "conv1d": lambda: Conv(layer, x, self.reduction, self.binary),
            "dense": lambda: Dense(layer, x, self.reduction, self.binary),
            "deconv": lambda: Deconv(layer, x).to(x),
            "batch_norm": lambda: Norm(layer, x, self.eps),
            "subsample": lambda: Subsample(layer, x),
            "rbf": lambda: Rbf(layer, x, self.reduction),
        }
        return makers[layer["op"]]() if layer["op"] in makers else None

    def _compute(
        self, number: int, layer: Layer, given: list[torch.Tensor], values: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        if str(number) in self.parts:
            return self.parts[str(number)](*given)
        if layer["op"] == "crop":
            start, (height, width) = layer["offset"], values[layer["like"]].shape[2:]
            return given[0][:, :, start : start + height, start : start + width]
        if layer["op"] == "pad_shortcut":
            stride, channels = layer["stride"], self.reduction.width(layer["output"][-1])
            return functional.pad(given[0][:, :, ::stride, ::stride], (0, 0, 0, 0, 0, channels - given[0].shape[1]))
        return PLAIN[layer["op"]](layer, *given)

    def _nchw(self, x: torch.Tensor) -> torch.Tensor:
        return x.movedim(-1, 1)

    # -- weights ----------------------------------------------------------------------------------

    def settle(self, x: torch.Tensor) -> None:
        """Make the running statistics those of these images, so that inference has values of a usual size."""
        self._train(x, momentum=1.0)

    def distance(self, x: torch.Tensor) -> float:
        """How far training on these images stays from the kinks of activations, relative to each layer's values."""
        self.margin = torch.tensor(torch.inf)
        self._train(x, momentum=0.0)
        return float(self.margin)

    def _train(self, x: torch.Tensor, momentum: float) -> None:
        norms = [part for part in self.parts.values() if isinstance(part, Norm)]
        with torch.no_grad():
            for norm in norms:
                norm.momentum = momentum
            self.train()(x)
        for norm in norms:
            norm.momentum = MOMENTUM

    def count(self, number: int) -> int:
        """Numbers that a layer holds, fixed ones too and moving statistics not: absent connections don't count."""
        if str(number) not in self.parts:
            return 0
        part = self.parts[str(number)]
        absent = part.absent() if isinstance(part, Conv) else 0
        counted = [tensor for name, tensor in part.state_dict().items() if "running" not in name]
        return sum(tensor.numel() for tensor in counted) - absent

    def slots(self) -> list[torch.Tensor]:
        """Parameters and buffers in program order; within a layer as PyTorch has them."""
        return [tensor for part in self.parts.values() for tensor in part.state_dict(keep_vars=True).values()]

    def take(self, state: Mapping[str, Array]) -> dict[str, torch.Tensor]:
        """Take over a state dict in program order; gives our tensors by its names. Fixed kernels must agree already."""
        state = {name: state[name] for name in sorted(state, key=is_in_head)}
        slots = self.slots()
        assert [tuple(slot.shape) for slot in slots] == [value.shape for value in state.values()], list(state)
        fixed = {id(part.weight) for part in self.parts.values() if isinstance(part, Deconv)}
        with torch.no_grad():
            for slot, value in zip(slots, state.values(), strict=True):
                if id(slot) in fixed:
                    np.testing.assert_allclose(value, slot.numpy(), rtol=1e-6, atol=1e-7)
                slot.copy_(torch.tensor(value))
        return dict(zip(state, slots, strict=True))


def _last(shape: torch.Size) -> tuple[int, ...]:
    return (*shape[1:], shape[0])


def _nhwc(value: torch.Tensor) -> torch.Tensor:
    return value.movedim(1, -1)
