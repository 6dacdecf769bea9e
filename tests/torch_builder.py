"""A program in PyTorch: its resolved statements one by one, NCHW, with autograd for the gradients.

Shares nothing with our graphs and oracle but the Philox mask of dropout.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch.nn import functional

from cnnc.frontend.build_graph import Built
from cnnc.frontend.diagnostics import Diagnostics
from cnnc.frontend.layers import CropLayer, DropoutLayer, FromLayer, HeadEnd, HeadStart, MergeLayer
from cnnc.frontend.lower import lower_collecting
from cnnc.frontend.parser import parse_collecting
from cnnc.ir.model import Model
from cnnc.runtime.arrays import Array
from cnnc.runtime.philox import dropout_mask
from tests.torch_layers import PLAIN, Layers, Result, crop, merged


def built(model: Model) -> tuple[Built, ...]:
    """The program's layers, as its text resolves."""
    diagnostics = Diagnostics()
    return lower_collecting(parse_collecting(model.source, diagnostics), diagnostics).built


def inputs_of(item: Built) -> set[str]:
    """Names of the layers that a layer reads."""
    if isinstance(item.layer, MergeLayer):
        return {name for _, name in item.layer.operands}
    return {item.reads, item.layer.like} if isinstance(item.layer, CropLayer) else {item.reads}


def needed_by(layers: tuple[Built, ...], *ends: str) -> set[str]:
    """Names of these layers and of all before them that they depend on."""
    found = set(ends)
    for item in reversed(layers):
        if not isinstance(item.layer, FromLayer) and item.layer.place.name in found:
            found |= inputs_of(item)
    return found


class TorchNetwork:
    """Weights, running statistics and SGD of a program.

    ``state`` is our ``state_dict``; ``dtype`` float64 unless the effect of rounding is to be seen.
    """

    def __init__(self, model: Model, state: Mapping[str, Array], seed: int, dtype: torch.dtype = torch.float64) -> None:
        self.model = model
        self.built = built(model)
        self.ends = self._ends()
        main = self.ends["output"]
        heads = [end for name, end in self.ends.items() if name != "output"]
        # What runs for the heads' losses alone, and what reads it.
        self.heads_alone = needed_by(self.built, *heads) - needed_by(self.built, main)
        for item in self.built:
            self.heads_alone |= {item.layer.place.name} if inputs_of(item) & self.heads_alone else set()
        self.seed = seed
        self.step = 0
        self.dtype = dtype
        self.state = {name: torch.tensor(value, dtype=dtype) for name, value in state.items()}
        trained = [spec for spec in model.listed() if spec.trainable]
        self.trained = {spec.name for spec in trained}
        self.clipped = [spec.name for spec in trained if spec.clipped]
        for spec in trained:
            self.state[spec.name].requires_grad_(True)
        sgd = model.train.optimizer
        groups = [
            {"params": [self.state[s.name] for s in trained if s.decay], "weight_decay": sgd.weight_decay},
            {"params": [self.state[s.name] for s in trained if not s.decay], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        self.optimizer = torch.optim.SGD(groups, lr=sgd.lr, momentum=sgd.momentum) if groups else None

    def run(self, x: Array, *, training: bool) -> Array:
        """The output for ``[N, H, W, C]``; training mode moves the running statistics."""
        with torch.no_grad():
            return self._taken(self._forward(self._given(x), training)["output"][0])

    def loss(self, x: Array, target: Array) -> tuple[float, dict[str, Array]]:
        """Mean cross-entropy, the heads' by their weights added, and its gradients."""
        self._clear()
        found = self._forward(self._given(x), True, heads=True)
        weights = {"output": 1.0, **{head.name: head.weight for head in self.model.heads}}
        labels = torch.tensor(target)
        labels = labels[..., None] if found["output"][1].ndim == labels.ndim + 2 else labels
        losses = [weight * functional.cross_entropy(found[name][1], labels) for name, weight in weights.items()]
        loss = torch.stack(losses).sum()
        if loss.requires_grad:
            loss.backward()
        return float(loss.detach()), self._gradients()

    def vjp(self, x: Array, dy: Array) -> tuple[Array, dict[str, Array]]:
        """Gradients of ``sum(output * dy)``: the input's, then the parameters'."""
        self._clear()
        given = self._given(x).requires_grad_(True)
        product = (self._forward(given, True)["output"][0] * self._given(dy)).sum()
        if product.requires_grad:
            product.backward()
        return self._taken(torch.zeros_like(given) if given.grad is None else given.grad), self._gradients()

    def train_step(self, x: Array, target: Array) -> float:
        loss, _ = self.loss(x, target)
        for name in self.trained:  # the optimiser decays what the loss does not depend on, too
            if self.state[name].grad is None:
                self.state[name].grad = torch.zeros_like(self.state[name])
        if self.optimizer is not None:
            self.optimizer.step()
        with torch.no_grad():
            for name in self.clipped:
                self.state[name].clamp_(-1, 1)
        self.step += 1
        return loss

    def values(self) -> dict[str, Array]:
        """What ``state_dict`` should be now."""
        return {name: value.detach().numpy().copy() for name, value in self.state.items()}

    # -- one run ----------------------------------------------------------------------------------

    def _given(self, array: Array) -> torch.Tensor:
        tensor = torch.tensor(array, dtype=self.dtype)
        tensor = tensor[:, :, None] if tensor.ndim == 3 else tensor
        return tensor.movedim(-1, 1).contiguous()

    def _taken(self, tensor: torch.Tensor) -> Array:
        array = tensor.movedim(1, -1).numpy().copy()
        return array[:, :, 0] if self.model.sequence and array.ndim == 4 else array

    def _clear(self) -> None:
        for value in self.state.values():
            value.grad = None

    def _gradients(self) -> dict[str, Array]:
        trained = {name: value for name, value in self.state.items() if name in self.trained}
        return {
            name: np.zeros(value.shape) if value.grad is None else value.grad.numpy().copy()
            for name, value in trained.items()
        }

    def _ends(self) -> dict[str, str]:
        """The last layer of the program and of each head."""
        ends: dict[str, str] = {}
        head = last = ""
        for item in self.built:
            if isinstance(item.layer, HeadStart):
                head = item.layer.name
            elif isinstance(item.layer, HeadEnd):
                ends[head] = last
            elif isinstance(item.layer, FromLayer):
                ends["output"] = item.reads
            else:
                last = item.layer.place.name
        return ends

    def _forward(self, x: torch.Tensor, training: bool, *, heads: bool = False) -> dict[str, Result]:
        """The output and the heads': values, and the logits that a loss reads. What is not needed runs too."""
        layers = Layers(self.state, training)
        values: dict[str, Result] = {"input": (x, x)}
        stream = 0
        for item in self.built:
            layer = item.layer
            stream += isinstance(layer, DropoutLayer)  # heads count too
            if isinstance(layer, (HeadStart, HeadEnd, FromLayer)):
                continue
            if heads or layer.place.name not in self.heads_alone:
                values[layer.place.name] = self._compute(item, layers, values, stream)
        return {name: values[end] for name, end in self.ends.items() if heads or name == "output"}

    def _compute(self, item: Built, layers: Layers, values: dict[str, Result], stream: int) -> Result:
        layer = item.layer
        if isinstance(layer, MergeLayer):
            terms = [factor * values[name][0] for factor, name in layer.operands]
            return layers.follow(layer.place.name, layer.activation, merged(layer.kind, terms))
        x = values[item.reads][0]
        if isinstance(layer, DropoutLayer):
            y = self._dropout(layer.rate, stream - 1, x) if layers.training else x
        elif isinstance(layer, CropLayer):
            y = crop(layer, x, layer.size or tuple(values[layer.like][0].shape[2:]))
        elif type(layer) in PLAIN:
            y = PLAIN[type(layer)](layer, x)
        else:
            return layers.compute(layer, x)
        return y, y

    def _dropout(self, rate: float, stream: int, x: torch.Tensor) -> torch.Tensor:
        mask = dropout_mask(self.seed, self.step, stream, rate, tuple(x.movedim(1, -1).shape))
        return x * torch.tensor(mask).movedim(-1, 1) / (1 - rate)
