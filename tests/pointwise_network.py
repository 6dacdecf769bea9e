"""A net by hand with every op on single elements, masked and binary weights; and the same in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from cnnc.ir import ops
from cnnc.ir.graph import Node, Value
from cnnc.ir.model import Model
from cnnc.ir.params import Init, ParamSpec, conv_spec, linear_spec
from cnnc.ir.training import Sgd, TrainConfig
from cnnc.ir.types import Element
from cnnc.ir.window import Window
from cnnc.source import Source
from tests.passes.networks import Builder
from tests.torch_activations import ACTIVATIONS, sign

IMAGE = (6, 5)
CLASSES = 7
SGD = Sgd(lr=0.5, momentum=0.9, weight_decay=1e-3)


class WeightBuilder(Builder):
    """Convolutions and products whose weights are not the parameters themselves."""

    def masked(self, name: str, filters: int, kernel: int) -> None:
        """Each filter leaves out every third channel, from another one on."""
        channels = self.graph.type_of(self.last).shape[-1]
        weight = self.param(conv_spec(f"{name}.weight", filters, (kernel, kernel), channels), Element.REAL)
        kept = tuple(float((k + c) % 3 > 0) for k in range(filters) for c in range(channels))
        pair = (filters, channels)
        mask = self.param(ParamSpec(f"{name}.mask", pair, pair, (0, 1), Init("values", 0, kept), False, listed=False))
        used = self.graph.add(f"{name}.masked", ops.MaskWeight(), [weight, mask], layer=name)
        self.op(name, ops.Conv(_same(kernel)), used.value())

    def binary(self, name: str, filters: int, kernel: int) -> None:
        channels = self.graph.type_of(self.last).shape[-1]
        spec = conv_spec(f"{name}.weight", filters, (kernel, kernel), channels)
        self.op(name, ops.Conv(_same(kernel)), self._signs(name, spec))

    def binary_linear(self, name: str, filters: int) -> None:
        spec = linear_spec(f"{name}.weight", filters, self.graph.type_of(self.last).shape[0])
        self.op(name, ops.Linear(), self._signs(name, spec))

    def _signs(self, name: str, spec: ParamSpec) -> Value:
        master = self.param(replace(spec, init=Init("uniform", 1), decay=False, clipped=True))
        return self.graph.add(f"{name}.signs", ops.Binarize(), [master], layer=name).value()


def _same(kernel: int) -> Window:
    return Window((kernel, kernel), pad=(kernel // 2,) * 4)


def pointwise_network(width: int) -> Model:
    """Every such op, each behind a product where it can join its kernel; the output is a vector of logits."""
    net = WeightBuilder(*IMAGE, 3)
    net.masked("c3", width, 3)
    net.bias("c3.bias")
    net.op("c3.elu", ops.Activation("elu", 0.75))
    start = net.op("c3.scale", ops.Scale(0.5))
    net.masked("point", width, 1)
    net.op("point.prelu", ops.PRelu(), net.vector("point.slope", "ones"))
    net.binary("signs", width, 3)
    net.norm("signs.bn")
    net.op("signs.sign", ops.Activation("sign", 0.25))
    net.binary("signs1", width, 1)
    net.norm("signs1.bn")
    net.op("signs1.hard", ops.Activation("hard_sigmoid"))
    net.op("gate", ops.Mul(), start)
    net.op("gate.factor", ops.ChannelScale(), net.vector("gate.weight", "ones"))
    before = net.op("gate.leaky", ops.Activation("leaky_relu", 0.1))
    net.conv("square", width, 3, pad=1)
    square = net.op("square.mul", ops.Mul(), net.last)
    net.op("square.deviation", ops.Activation("inverse_deviation", 0.5))
    net.op("divided", ops.Mul(), before)
    net.op("divided.copy", ops.Identity())
    divided = net.last
    net.last = square
    net.op("root", ops.Activation("sqrt"))
    net.op("sum", ops.Add(), divided)
    net.op("softsign", ops.Activation("softsign"))
    shape = net.graph.type_of(net.last).shape
    plain = (shape[2], shape[0], shape[1])
    place = ParamSpec("place.bias", plain, plain, (1, 2, 0), Init("zeros"))
    net.conv("last", width, 1)
    net.op("place", ops.PositionBias(), net.param(place))
    net.op("place.tanh", ops.Activation("scaled_tanh"))
    net.op("flat", ops.Flatten())
    net.binary_linear("fc1", width)
    net.op("fc1.scale", ops.Scale(0.05))
    net.op("fc1.prelu", ops.PRelu(), net.vector("fc1.slope", "ones"))
    net.op("fc2", ops.Linear(), net.param(linear_spec("fc2.weight", CLASSES, width), Element.REAL))
    return Model("hand", net.done(), (*IMAGE, 3), TrainConfig(optimizer=SGD), Source("hand.cnn", "model hand\n"))


def _channels(vector: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return vector.reshape(-1, *(1 for _ in x.shape[2:]))


def _norm(state: dict[str, torch.Tensor], training: bool, node: Node, op: ops.BatchNorm, *given: torch.Tensor) -> Any:
    x, gamma, beta, *_ = given
    mean, var = (state[value.node] for value in node.operands[3:])
    return functional.batch_norm(x, mean, var, gamma, beta, training, op.momentum, op.eps)


APPLY: dict[type[ops.Op], Callable[..., torch.Tensor]] = {
    ops.Conv: lambda op, x, w: functional.conv2d(x, w, padding=op.window.pad[0]),
    ops.Linear: lambda op, x, w: x @ w.T,
    ops.BiasAdd: lambda op, x, bias: x + _channels(bias, x),
    ops.PositionBias: lambda op, x, bias: x + bias,
    ops.Activation: lambda op, x: ACTIVATIONS[op.kind](x, op.alpha),
    ops.PRelu: lambda op, x, slope: functional.prelu(x, slope),
    ops.Identity: lambda op, x: x,
    ops.Scale: lambda op, x: op.factor * x,
    ops.ChannelScale: lambda op, x, factor: x * _channels(factor, x),
    ops.Mul: lambda op, a, b: a * b,
    ops.Add: lambda op, a, b: a + b,
    ops.Flatten: lambda op, x: x.flatten(1),
    ops.MaskWeight: lambda op, w, mask: w * mask[:, :, None, None],
    ops.Binarize: lambda op, w: sign(w),
}


def in_torch(model: Model, state: Mapping[str, torch.Tensor], x: torch.Tensor, *, training: bool) -> torch.Tensor:
    """The output for an NCHW batch from parameters by name in PyTorch's shapes; training moves the statistics."""
    values: dict[Value, torch.Tensor] = {}
    for node in model.graph.walk():
        operands = [values[value] for value in node.operands]
        if isinstance(node.op, ops.Input):
            result = x
        elif isinstance(node.op, ops.Parameter):
            result = state[node.op.spec.name]
        elif isinstance(node.op, ops.BatchNorm):
            result = partial(_norm, dict(state), training)(node, node.op, *operands)
        else:
            result = APPLY[type(node.op)](node.op, *operands)
        values[node.value()] = result
    return values[model.graph.outputs["output"]]


def constants(model: Model) -> dict[str, torch.Tensor]:
    """The masks, which no ``state_dict`` holds."""
    specs = [spec for spec in model.params() if not spec.listed]
    return {spec.name: torch.tensor(np.array(spec.init.values)).reshape(spec.torch_shape) for spec in specs}
