"""The same network in PyTorch on the cpu, to be timed beside ours: eager, inference mode, channels last."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from cnnc.errors import UsageError
from cnnc.ir import ops
from cnnc.ir.graph import Node, Value
from cnnc.ir.model import Model
from cnnc.ir.window import Window
from cnnc.report.layers import ancestors
from cnnc.runtime.arrays import Array, to_stored

Tensor = Any
Step = tuple[Value, Callable[[list[Tensor]], Tensor], tuple[Value, ...]]


def import_torch() -> Any:
    """PyTorch.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module("torch")
    except ImportError:
        raise UsageError("--against torch needs PyTorch: pip install 'cnnc[torch]'") from None


class TorchPeer:
    """A program's inference in PyTorch's own ops, with the weights given (PyTorch's layouts, by parameter name)."""

    def __init__(self, model: Model, weights: Mapping[str, Array]) -> None:
        self._torch = import_torch()
        self._f = self._torch.nn.functional
        self._output = model.graph.outputs["output"]
        self._fixed: dict[Value, Tensor] = {}
        self._input = Value("input")
        self._steps: list[Step] = []
        needed = ancestors(model.graph, [self._output])
        for node in model.graph.walk():
            if node.name not in needed:
                continue
            if isinstance(node.op, ops.Input):
                self._input = node.value()
            elif isinstance(node.op, ops.Parameter):
                self._fixed[node.value()] = self._parameter(to_stored(node.op.spec, weights[node.op.spec.name]))
            else:
                image = model.graph.type_of(node.operands[0]).shape
                self._steps.append((node.value(), self._compiled(node, image), node.operands))

    @property
    def threads(self) -> int:
        """The threads that PyTorch takes unless told otherwise."""
        count: int = self._torch.get_num_threads()
        return count

    def __call__(self, x: Array, threads: int | None = None) -> Array:
        """The output for ``[N, H, W, C]`` (or vectors), in that layout."""
        if threads is not None:
            self._torch.set_num_threads(threads)
        with self._torch.inference_mode():
            values = {**self._fixed, self._input: self._given(x)}
            for value, compute, operands in self._steps:
                values[value] = compute([values[operand] for operand in operands])
            y = values[self._output]
        found: Array = (y.permute(0, 2, 3, 1) if y.ndim == 4 else y).numpy()
        return found

    def _given(self, x: Array) -> Tensor:
        tensor = self._torch.from_numpy(x)
        return tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor

    def _parameter(self, stored: Array) -> Tensor:
        """Filters K,R,S,C become K,C,R,S and images H,W,C become C,H,W; PyTorch keeps the memory as it is."""
        tensor = self._torch.from_numpy(stored.astype("float32"))
        return tensor.permute(*{4: (0, 3, 1, 2), 3: (2, 0, 1)}.get(stored.ndim, range(stored.ndim)))

    def _compiled(self, node: Node, image: tuple[int, ...]) -> Callable[[list[Tensor]], Tensor]:
        op = node.op
        for kinds, compute in (
            (_WINDOWED, self._windowed),
            (_SIMPLE, self._simple),
            (_MOVING, self._moving),
        ):
            if isinstance(op, kinds):
                return compute(node, image)
        raise UsageError(f"--against torch has no {op.name.replace('_', ' ')}")

    # -- windows ----------------------------------------------------------------------------------

    def _windowed(self, node: Node, image: tuple[int, ...]) -> Callable[[list[Tensor]], Tensor]:
        op, f = node.op, self._f
        assert isinstance(op, _WINDOWED)
        window = op.window
        if isinstance(op, ops.ConvDgrad):
            return self._deconv(op)
        if isinstance(op, ops.Conv):
            pad, own = _split_pad(window, image, node.types[0].shape)
            kept = {"stride": window.stride, "dilation": window.dilation, "groups": op.groups, "padding": own}
            return lambda v: f.conv2d(_padded(f, v[0], pad, 0.0), v[1], **kept)
        pad = _whole_pad(window, image, node.types[0].shape)
        if isinstance(op, ops.MaxPool):
            lowest = float("-inf")
            shape = {"kernel_size": window.kernel, "stride": window.stride, "dilation": window.dilation}
            return lambda v: f.max_pool2d(_padded(f, v[0], pad, lowest), **shape)
        sums = {"kernel_size": window.kernel, "stride": window.stride, "divisor_override": 1}
        if isinstance(op, ops.SumPool):
            return lambda v: f.avg_pool2d(_padded(f, v[0], pad, 0.0), **sums)
        counted = window.pad if op.count_pad else (0, 0, 0, 0)
        ones = f.pad(self._torch.ones(1, 1, image[0], image[1]), _torch_order(counted), value=1.0)
        rest = tuple(a - b for a, b in zip(pad, counted, strict=True))
        counts = f.avg_pool2d(_padded(f, ones, rest, 0.0), **sums)
        return lambda v: f.avg_pool2d(_padded(f, v[0], pad, 0.0), **sums) / counts

    def _deconv(self, op: ops.ConvDgrad) -> Callable[[list[Tensor]], Tensor]:
        f, window = self._f, op.window
        top, _, left, _ = window.pad
        height, width = op.image

        def compute(values: list[Tensor]) -> Tensor:
            full = f.conv_transpose2d(
                values[0], values[1], stride=window.stride, dilation=window.dilation, groups=op.groups
            )
            missing = (max(0, top + height - full.shape[2]), max(0, left + width - full.shape[3]))
            full = _padded(f, full, (0, missing[0], 0, missing[1]), 0.0)
            return full[:, :, top : top + height, left : left + width]

        return compute

    # -- everything else --------------------------------------------------------------------------

    def _simple(self, node: Node, image: tuple[int, ...]) -> Callable[[list[Tensor]], Tensor]:
        op, f, torch = node.op, self._f, self._torch
        if isinstance(op, ops.Activation):
            return self._activation(op)
        if isinstance(op, ops.BatchNorm):
            return lambda v: f.batch_norm(v[0], v[3], v[4], v[1], v[2], eps=op.eps)
        if isinstance(op, ops.Scale):
            return lambda v: v[0] * op.factor
        if isinstance(op, ops.Lrn):
            return lambda v: f.local_response_norm(v[0], op.n, alpha=op.alpha * op.n, beta=op.beta, k=op.k)
        if isinstance(op, ops.Maxout):
            pieces = op.pieces
            return lambda v: v[0].unflatten(1, (-1, pieces)).amax(2)
        plain: dict[type[ops.Op], Callable[[list[Tensor]], Tensor]] = {
            ops.Linear: lambda v: f.linear(v[0], v[1]) if v[0].ndim == 2 else f.conv2d(v[0], v[1][:, :, None, None]),
            ops.Rbf: lambda v: (v[0][:, None] - v[1]).square().sum(2),
            ops.BiasAdd: lambda v: v[0] + _channelwise(v[1], v[0]),
            ops.ChannelScale: lambda v: v[0] * _channelwise(v[1], v[0]),
            ops.PositionBias: lambda v: v[0] + v[1],
            ops.PRelu: lambda v: f.prelu(v[0], v[1]),
            ops.Add: lambda v: v[0] + v[1],
            ops.Mul: lambda v: v[0] * v[1],
            ops.Concat: lambda v: torch.cat(v, 1),
            ops.Softmax: lambda v: torch.softmax(v[0], 1),
            ops.GlobalAvgPool: lambda v: v[0].mean((2, 3)),
            ops.MaskWeight: lambda v: v[0] * v[1].reshape(*v[1].shape, *[1] * (v[0].ndim - 2)),
            ops.Binarize: lambda v: torch.where(v[0] >= 0, 1.0, -1.0),
            ops.Dropout: lambda v: v[0],
            ops.Identity: lambda v: v[0],
        }
        return plain[type(op)]

    def _activation(self, op: ops.Activation) -> Callable[[list[Tensor]], Tensor]:
        f, torch, alpha = self._f, self._torch, op.alpha
        table: dict[str, Callable[[Tensor], Tensor]] = {
            "relu": torch.relu,
            "tanh": torch.tanh,
            "sigmoid": torch.sigmoid,
            "leaky_relu": lambda x: f.leaky_relu(x, alpha),
            "elu": lambda x: f.elu(x, alpha),
            "scaled_tanh": lambda x: 1.7159 * torch.tanh(2 / 3 * x),
            "hard_sigmoid": lambda x: torch.clamp(0.2 * x + 0.5, 0, 1),
            "softsign": f.softsign,
            "sign": lambda x: torch.where(x >= alpha, 1.0, -1.0),
            "sqrt": torch.sqrt,
            "inverse_deviation": lambda x: 1 / torch.clamp(torch.sqrt(x), min=alpha),
        }
        compute = table[op.kind]
        return lambda v: compute(v[0])

    def _moving(self, node: Node, image: tuple[int, ...]) -> Callable[[list[Tensor]], Tensor]:
        op, f = node.op, self._f
        if isinstance(op, ops.Flatten):
            return lambda v: v[0].flatten(1)
        if isinstance(op, ops.Unflatten):
            height, width, channels = op.shape
            return lambda v: v[0].unflatten(1, (channels, height, width))
        if isinstance(op, ops.ZeroPad):
            pad = op.pad
            return lambda v: _padded(f, v[0], pad, 0.0)
        if isinstance(op, ops.Crop):
            (top, left), (height, width) = op.offset, op.size
            return lambda v: v[0][:, :, top : top + height, left : left + width]
        if isinstance(op, ops.PadShortcut):
            (down, right), more = op.stride, op.channels - image[2]
            return lambda v: f.pad(v[0][:, :, ::down, ::right], (0, 0, 0, 0, 0, more))
        if isinstance(op, ops.Upsample):
            settings = {"scale_factor": op.factor, "mode": op.mode}
            return lambda v: f.interpolate(v[0], **settings)
        if isinstance(op, ops.ChannelShuffle):
            groups = op.groups
            return lambda v: v[0].unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
        assert isinstance(op, ops.ChannelSlice)
        start, end = op.start, op.start + op.count
        return lambda v: v[0][:, start:end]


_WINDOWED = (ops.Conv, ops.ConvDgrad, ops.MaxPool, ops.AvgPool, ops.SumPool)
_MOVING = (
    ops.Flatten,
    ops.Unflatten,
    ops.ZeroPad,
    ops.Crop,
    ops.PadShortcut,
    ops.Upsample,
    ops.ChannelShuffle,
    ops.ChannelSlice,
)
_SIMPLE = (
    ops.Activation,
    ops.BatchNorm,
    ops.Scale,
    ops.Lrn,
    ops.Maxout,
    ops.Linear,
    ops.Rbf,
    ops.BiasAdd,
    ops.ChannelScale,
    ops.PositionBias,
    ops.PRelu,
    ops.Add,
    ops.Mul,
    ops.Concat,
    ops.Softmax,
    ops.GlobalAvgPool,
    ops.MaskWeight,
    ops.Binarize,
    ops.Dropout,
    ops.Identity,
)


def _channelwise(vector: Tensor, x: Tensor) -> Tensor:
    return vector[:, None, None] if x.ndim == 4 else vector


def _torch_order(pad: tuple[int, ...]) -> tuple[int, int, int, int]:
    top, bottom, left, right = pad
    return left, right, top, bottom


def _padded(f: Any, x: Tensor, pad: tuple[int, ...], value: float) -> Tensor:
    return f.pad(x, _torch_order(pad), value=value) if any(pad) else x


def _whole_pad(window: Window, image: tuple[int, ...], output: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Padding that gives this output without rounding up: ``ceil`` adds what its last window lacks."""
    pads: list[int] = []
    for axis in (0, 1):
        before, after = window.pad_of(axis)
        reach = (output[axis] - 1) * window.stride[axis] + window.extent[axis]
        pads += [before, max(after, reach - image[axis] - before)]
    return pads[0], pads[1], pads[2], pads[3]


def _split_pad(
    window: Window, image: tuple[int, ...], output: tuple[int, ...]
) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    """Padding to add beforehand, and padding that the conv adds itself where both sides agree."""
    top, bottom, left, right = _whole_pad(window, image, output)
    if top == bottom and left == right:
        return (0, 0, 0, 0), (top, left)
    return (top, bottom, left, right), (0, 0)
