"""A net by hand with pools of sums, borders, crops, shortcuts, up-sampling and depthwise convolutions."""

from __future__ import annotations

from cnnc.ir import ops
from cnnc.ir.model import Model
from cnnc.ir.training import TrainConfig
from cnnc.ir.window import Window
from cnnc.source import Source
from tests.passes.networks import Builder

IMAGE = (13, 12)


def space_network(channels: int) -> Model:
    """Every op of this family, each with something behind it that may join its kernel; the output is a vector."""
    net = Builder(*IMAGE, channels)
    net.op("border", ops.ZeroPad((0, 1, 2, 0)))
    net.conv("depth", 2 * channels, 3, pad=1, groups=channels)
    net.norm("depth.bn")
    net.op("depth.relu", ops.Activation("relu"))
    net.op("sums", ops.SumPool(Window((3, 3), (2, 2), (0, 1, 1, 0), ceil=True)))
    net.op("sums.drop", ops.Dropout(0.3, 0))
    net.op("nearest", ops.Upsample((2, 3)))
    net.op("part", ops.Crop((1, 0), (9, 11)))
    net.op("part.tanh", ops.Activation("tanh"))
    net.op("shortcut", ops.PadShortcut((2, 2), 3 * channels))
    net.bias("shortcut.bias")
    net.op("bilinear", ops.Upsample((2, 4), "bilinear"))
    net.op("bilinear.sigmoid", ops.Activation("sigmoid"))
    net.conv("strided", 3 * channels, 5, stride=2, pad=1, groups=3 * channels)
    net.bias("strided.bias")
    net.op("strided.tanh", ops.Activation("tanh"))
    net.op("gap", ops.GlobalAvgPool())
    return Model("space", net.done(), (*IMAGE, channels), TrainConfig(), Source("space.cnn", "model space\n"))
