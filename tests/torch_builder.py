"""A program in PyTorch: the lowered graph, op by op, in float64 and NCHW, with autograd for the gradients.

Shares nothing with our oracle but the Philox mask of dropout. Window arithmetic is PyTorch's own where it
can express the padding.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch.nn import functional

from cnnc.ir import ops
from cnnc.ir.graph import Node, Value
from cnnc.ir.model import Model
from cnnc.ir.window import Window
from cnnc.runtime.arrays import Array
from cnnc.runtime.philox import dropout_mask
from tests.numerics.torch_side import nhwc

ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}


class TorchNetwork:
    """Weights, running statistics and SGD of a program.

    ``state`` is our ``state_dict``; ``dtype`` float64 unless the effect of rounding is to be seen.
    """

    def __init__(self, model: Model, state: Mapping[str, Array], seed: int, dtype: torch.dtype = torch.float64) -> None:
        self.model = model
        self.seed = seed
        self.step = 0
        self.dtype = dtype
        self.buffers = {spec.name for spec in model.params() if not spec.trainable}
        self.state = {name: torch.tensor(value, dtype=dtype) for name, value in state.items()}
        trained = [spec for spec in model.params() if spec.trainable]
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
            return nhwc(self._forward(self._given(x), training)[0])

    def loss(self, x: Array, target: Array) -> tuple[float, dict[str, Array]]:
        """Mean cross-entropy and its gradients."""
        self._clear()
        _, logits = self._forward(self._given(x), True)
        loss = functional.cross_entropy(logits, torch.tensor(target))
        if loss.requires_grad:
            loss.backward()
        return float(loss.detach()), self._gradients()

    def vjp(self, x: Array, dy: Array) -> tuple[Array, dict[str, Array]]:
        """Gradients of ``sum(output * dy)``: the input's, then the parameters'."""
        self._clear()
        given = self._given(x).requires_grad_(True)
        (self._forward(given, True)[0] * self._given(dy)).sum().backward()
        assert given.grad is not None
        return nhwc(given.grad), self._gradients()

    def train_step(self, x: Array, target: Array) -> float:
        loss, _ = self.loss(x, target)
        if self.optimizer is not None:
            self.optimizer.step()
        self.step += 1
        return loss

    def values(self) -> dict[str, Array]:
        """What ``state_dict`` should be now."""
        return {name: value.detach().numpy().copy() for name, value in self.state.items()}

    # -- one run ----------------------------------------------------------------------------------

    def _given(self, array: Array) -> torch.Tensor:
        tensor = torch.tensor(array, dtype=self.dtype)
        return tensor.permute(0, 3, 1, 2).contiguous() if tensor.ndim == 4 else tensor

    def _clear(self) -> None:
        for value in self.state.values():
            value.grad = None

    def _gradients(self) -> dict[str, Array]:
        trained = {name: value for name, value in self.state.items() if name not in self.buffers}
        return {
            name: np.zeros(value.shape) if value.grad is None else value.grad.numpy().copy()
            for name, value in trained.items()
        }

    def _forward(self, x: torch.Tensor, training: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """The output, and the logits that a final softmax reads."""
        graph = self.model.graph
        values: dict[Value, torch.Tensor] = {}
        for node in graph.walk():
            if isinstance(node.op, ops.Input):
                values[node.value()] = x
            elif isinstance(node.op, ops.Parameter):
                values[node.value()] = self.state[node.op.spec.name]
            else:
                values[node.value()] = self._compute(node, [values[value] for value in node.operands], training)
        last = graph[graph.outputs["output"].node]
        before = last.operands[0] if isinstance(last.op, ops.Softmax) else last.value()
        return values[last.value()], values[before]

    def _compute(self, node: Node, given: list[torch.Tensor], training: bool) -> torch.Tensor:
        op, x = node.op, given[0]
        if isinstance(op, ops.Conv):
            top, bottom, left, right = op.window.pad
            padded = functional.pad(x, (left, right, top, bottom))
            window = op.window
            return functional.conv2d(padded, given[1], stride=window.stride, dilation=window.dilation, groups=op.groups)
        if isinstance(op, ops.BiasAdd):
            return x + given[1].reshape(-1, *(1 for _ in x.shape[2:]))
        if isinstance(op, ops.BatchNorm):
            return _batch_norm(op, given, training)
        if isinstance(op, ops.Dropout):
            return self._dropout(op, x) if training else x
        if isinstance(op, ops.MaxPool):
            return _max_pool(op.window, x, node.types[0].shape)
        if isinstance(op, ops.AvgPool):
            return _average_pool(op, x, node.types[0].shape)
        simple = {
            ops.Linear: lambda: functional.linear(x, given[1]),
            ops.Activation: lambda: ACTIVATIONS[op.kind](x),  # type: ignore[attr-defined]
            ops.Softmax: lambda: torch.softmax(x, 1),
            ops.GlobalAvgPool: lambda: x.mean((2, 3)),
            ops.Flatten: lambda: x.flatten(1),
        }
        return simple[type(op)]()

    def _dropout(self, op: ops.Dropout, x: torch.Tensor) -> torch.Tensor:
        shape = tuple(x.permute(0, 2, 3, 1).shape) if x.ndim == 4 else tuple(x.shape)
        kept = torch.tensor(dropout_mask(self.seed, self.step, op.stream, op.rate, shape))
        kept = kept.permute(0, 3, 1, 2) if x.ndim == 4 else kept
        return x * kept / (1 - op.rate)


def _batch_norm(op: ops.BatchNorm, given: list[torch.Tensor], training: bool) -> torch.Tensor:
    x, gamma, beta, mean, var = given
    if not training or x.numel() > x.shape[1]:
        return functional.batch_norm(x, mean, var, gamma, beta, training, op.momentum, op.eps)
    # One value per channel: PyTorch refuses. Its deviation from its own mean is 0; the mean moves, the variance stays.
    with torch.no_grad():
        mean.mul_(1 - op.momentum).add_(x.reshape(-1), alpha=op.momentum)
    shape = (1, -1, *(1 for _ in x.shape[2:]))
    return (x - x) * gamma.reshape(shape) + beta.reshape(shape)


def _extra(window: Window, x: torch.Tensor, output: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Declared padding as ``functional.pad`` takes it, with what rounding up adds behind."""
    result: list[int] = []
    for axis in (1, 0):
        before, after = window.pad_of(axis)
        reach = (output[axis] - 1) * window.stride[axis] + window.extent[axis]
        result += [before, max(after, reach - before - x.shape[2 + axis])]
    return result[0], result[1], result[2], result[3]


def _native(window: Window) -> bool:
    """Whether PyTorch's own pools can pad like this."""
    top, bottom, left, right = window.pad
    return top == bottom and left == right and 2 * top <= window.kernel[0] and 2 * left <= window.kernel[1]


def _max_pool(window: Window, x: torch.Tensor, output: tuple[int, ...]) -> torch.Tensor:
    if _native(window):
        pad = (window.pad[0], window.pad[2])
        return functional.max_pool2d(x, window.kernel, window.stride, pad, window.dilation, window.ceil)
    padded = functional.pad(x, _extra(window, x, output), value=-torch.inf)
    y = functional.max_pool2d(padded, window.kernel, window.stride, 0, window.dilation)
    return y[:, :, : output[0], : output[1]]


def _average_pool(op: ops.AvgPool, x: torch.Tensor, output: tuple[int, ...]) -> torch.Tensor:
    window = op.window
    if _native(window):
        pad = (window.pad[0], window.pad[2])
        return functional.avg_pool2d(x, window.kernel, window.stride, pad, window.ceil, op.count_pad)
    inside = torch.ones_like(x[:1, :1])
    if op.count_pad:
        declared = (window.pad[2], window.pad[3], window.pad[0], window.pad[1])
        inside = functional.pad(inside, declared, value=1.0)
    extra = _extra(window, x, output)
    ones = functional.pad(inside, [e - d for e, d in zip(extra, declared, strict=True)] if op.count_pad else extra)

    def mean(image: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(image, window.kernel, window.stride)[:, :, : output[0], : output[1]]

    return mean(functional.pad(x, extra)) / mean(ones)
