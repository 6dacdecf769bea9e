"""Networks built by hand for the tests of tables and pictures: a few letters for each layer."""

from __future__ import annotations

from collections.abc import Sequence

from cnnc.frontend import load, read_source
from cnnc.ir import ops
from cnnc.ir.graph import Graph, Value
from cnnc.ir.model import Head, Model
from cnnc.ir.params import Init, ParamSpec, conv_spec, linear_spec, vector_spec
from cnnc.ir.types import Element
from cnnc.ir.window import Window, same_padding


class Net:
    """A graph that grows layer by layer; each method gives the new layer's value."""

    def __init__(self, *shape: int, name: str = "net") -> None:
        self.graph = Graph(name)
        self.shape = shape
        self.x = self.graph.add("input", ops.Input(shape), layer="input").value()

    def node(self, layer: str, op: ops.Op, *operands: Value) -> Value:
        name = self.graph.fresh(f"{layer}.{op.name}")
        return self.graph.add(name, op, operands or [self.x], layer=layer).value()

    def parameter(self, layer: str, spec: ParamSpec, element: Element = Element.ACC) -> Value:
        return self.graph.add(spec.name, ops.Parameter(spec, element), layer=layer).value()

    def constant(self, layer: str, shape: tuple[int, ...], init: Init, *, listed: bool = False) -> Value:
        spec = ParamSpec(f"{layer}.constant", shape, shape, tuple(range(len(shape))), init, False, False, listed=listed)
        return self.parameter(layer, spec)

    def channels(self, x: Value) -> int:
        return self.graph.type_of(x).shape[-1]

    def conv(
        self,
        layer: str,
        x: Value,
        filters: int,
        k: int,
        *,
        stride: int = 1,
        bn: bool = False,
        relu: bool = True,
        same: bool = True,
        dilation: int = 1,
        groups: int = 1,
    ) -> Value:
        pad = same_padding((k, k), (dilation, dilation)) if same else (0, 0, 0, 0)
        window = Window((k, k), (stride, stride), pad, (dilation, dilation))
        spec = conv_spec(f"{layer}.weight", filters, (k, k), self.channels(x) // groups)
        y = self.node(layer, ops.Conv(window, groups), x, self.parameter(layer, spec, Element.REAL))
        if bn:
            layer = f"{layer}.bn"
            y = self.norm(layer, y)
        return self.node(layer, ops.Activation("relu"), y) if relu else y

    def norm(self, layer: str, x: Value) -> Value:
        count = self.channels(x)
        trained = [vector_spec(f"{layer}.{name}", count, Init("ones")) for name in ("weight", "bias")]
        moving = [
            vector_spec(f"{layer}.running_{name}", count, Init("zeros"), trainable=False) for name in ("mean", "var")
        ]
        return self.node(layer, ops.BatchNorm(), x, *(self.parameter(layer, spec) for spec in trained + moving))

    def fc(self, layer: str, x: Value, width: int) -> Value:
        if len(self.graph.type_of(x).shape) == 3:
            x = self.node(f"{layer}_flatten", ops.Flatten(), x)
        weight = self.parameter(layer, linear_spec(f"{layer}.weight", width, self.channels(x)), Element.REAL)
        return self.node(layer, ops.Linear(), x, weight)

    def pool(self, layer: str, x: Value, k: int, stride: int, *, same: bool = False) -> Value:
        pad = same_padding((k, k), (1, 1)) if same else (0, 0, 0, 0)
        return self.node(layer, ops.MaxPool(Window((k, k), (stride, stride), pad)), x)

    def model(self, output: Value, *, sequence: bool = False, heads: Sequence[tuple[str, Value]] = ()) -> Model:
        self.graph.outputs = {"output": output, **dict(heads)}
        plain = load(read_source("input 1\nfc 1"))
        shown = (self.shape[0], self.shape[2]) if sequence else self.shape
        found = tuple(Head(name, 0.3) for name, _ in heads)
        return Model(self.graph.name, self.graph, shown, plain.train, plain.source, sequence, found)


def inception(net: Net, scope: str, x: Value, widths: tuple[int, int, int, int, int, int]) -> Value:
    """A module of GoogLeNet: 1x1 | 1x1 3x3 | 1x1 5x5 | pool 1x1."""
    n1, r3, n3, r5, n5, pp = widths
    arms = [
        net.conv(f"{scope}.conv1", x, n1, 1),
        net.conv(f"{scope}.conv3", net.conv(f"{scope}.conv2", x, r3, 1), n3, 3),
        net.conv(f"{scope}.conv5", net.conv(f"{scope}.conv4", x, r5, 1), n5, 5),
        net.conv(f"{scope}.conv6", net.pool(f"{scope}.maxpool1", x, 3, 1, same=True), pp, 1),
    ]
    return net.node(f"{scope}.concat1", ops.Concat(), *arms)


def naive_inception() -> Model:
    """The lectures' module before its 1x1 convs: 854,196,224 multiply-adds."""
    net = Net(28, 28, 256, name="naive")
    arms = [net.conv(f"conv{k}", net.x, filters, k) for k, filters in ((1, 128), (3, 192), (5, 96))]
    return net.model(net.node("concat1", ops.Concat(), *arms, net.pool("maxpool1", net.x, 3, 1, same=True)))


def bottleneck(net: Net, scope: str, x: Value, width: int, *, stride: int = 1) -> Value:
    """A bottleneck block of ResNet; a projection where the shape changes."""
    y = net.conv(f"{scope}.conv1", x, width, 1, stride=stride, bn=True)
    y = net.conv(f"{scope}.conv2", y, width, 3, bn=True)
    y = net.conv(f"{scope}.conv3", y, 4 * width, 1, bn=True, relu=False)
    if stride > 1 or net.channels(x) != 4 * width:
        x = net.conv(f"{scope}.shortcut1", x, 4 * width, 1, stride=stride, bn=True, relu=False)
    return net.node(f"{scope}.add1", ops.Activation("relu"), net.node(f"{scope}.add1", ops.Add(), y, x))


def resnet(depths: Sequence[int]) -> Model:
    """A ResNet of bottlenecks for 224x224x3; 3, 8, 36, 3 is ResNet-152."""
    net = Net(224, 224, 3, name="resnet")
    x = net.pool("maxpool1", net.conv("conv1", net.x, 64, 7, stride=2, bn=True), 3, 2, same=True)
    for stage, depth in enumerate(depths, 1):
        for block in range(1, depth + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            x = bottleneck(net, f"stage{stage}.{block}", x, 32 * 2**stage, stride=stride)
    return net.model(net.fc("fc1", net.node("globalavgpool1", ops.GlobalAvgPool(), x), 1000))
