"""What a box says: each op in the few words that diagrams have for it."""

from __future__ import annotations

from collections.abc import Callable

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node
from cnnc.ir.types import format_shape
from cnnc.ir.window import Pair, Window
from cnnc.report.layers import LOCAL_CONTRAST, Layer

# What colours a box; a kind is also a line of the legend.
KINDS: dict[str, str] = {
    "conv": "convolution",
    "conv1d": "convolution",
    "deconv": "transposed convolution",
    "dense": "fully connected",
    "rbf": "fully connected",
    "pool": "pool",
    "subsample": "pool",
    "global_avg_pool": "pool",
    "batch_norm": "normalisation",
    "lrn": "normalisation",
    LOCAL_CONTRAST: "normalisation",
    "concat": "merge",
    "add": "merge",
    "mul": "merge",
    "activation": "activation",
    "dropout": "activation",
    "maxout": "activation",
}
REARRANGED = "rearranged"  # crops, borders, slices: everything else


def kind_of(layer: Layer) -> str:
    """The layer's line in the legend."""
    return KINDS.get(layer.op, REARRANGED)


def words_of(layer: Layer, graph: Graph) -> tuple[str, ...]:
    """What the layer does, first what it is named for: ``("3x3 conv, 64, /2", "relu")``."""
    if layer.op == LOCAL_CONTRAST:
        return ("local contrast norm",)
    main = layer.main
    said = [_say(main, graph)]
    if layer.op == "subsample":
        said = [f"{_window(main)} subsample{_pool_stride(main)}"]
    for node in layer.computed:
        if isinstance(node.op, _FOLLOWING) and node is not main:
            said.append(_say(node, graph))
    return tuple(word for word in said if word)


def is_depthwise(layer: Layer, graph: Graph) -> bool:
    """A conv that keeps channels apart, without bias or activation in its layer."""
    op = layer.main.op
    if not isinstance(op, ops.Conv) or op.groups == 1 or len(layer.computed) > 1:
        return False
    return op.groups == graph.type_of(layer.main.operands[0]).shape[-1]


def is_pointwise(layer: Layer) -> bool:
    """A plain 1x1 conv at stride 1."""
    op = layer.main.op
    return isinstance(op, ops.Conv) and op == ops.Conv(Window((1, 1)))


def separable_words(depthwise: Layer, pointwise: Layer) -> str:
    """``3x3 separable conv, 728`` for both together."""
    main = depthwise.main
    return f"{_window(main)} separable conv, {pointwise.main.types[0].shape[-1]}{_stride(main)}"


_FOLLOWING: tuple[type[ops.Op], ...] = (
    ops.Activation,
    ops.PRelu,
    ops.Softmax,
    ops.Dropout,
    ops.Maxout,
    ops.PositionBias,
    ops.BatchNorm,
    ops.Scale,
)


def _say(node: Node, graph: Graph) -> str:
    say = _WORDS.get(type(node.op))
    return say(node, graph) if say else node.op.name.replace("_", " ")


def _window(node: Node) -> str:
    window = node.op.window  # type: ignore[attr-defined]
    return format_shape(window.kernel)


def _stride(node: Node) -> str:
    return _over(node.op.window.stride)  # type: ignore[attr-defined]


def _pool_stride(node: Node) -> str:
    """A pool's stride; 1 is said too, as it is the exception among pools."""
    window = node.op.window  # type: ignore[attr-defined]
    return ", /1" if window.stride == (1, 1) != window.kernel else _over(window.stride)


def _over(stride: Pair) -> str:
    if stride == (1, 1):
        return ""
    return f", /{stride[0]}" if stride[0] == stride[1] else f", /{format_shape(stride)}"


def _conv(node: Node, graph: Graph) -> str:
    op, filters = node.op, node.types[0].shape[-1]
    assert isinstance(op, ops.Conv)
    weight = graph[node.operands[1].node].op
    kind = {ops.MaskWeight: "sparse conv", ops.Binarize: "binary conv"}.get(type(weight), "conv")
    depthwise = op.groups > 1 and op.groups == graph.type_of(node.operands[0]).shape[-1]
    text = f"{_window(node)} {'depthwise ' if depthwise else ''}{kind}, {filters}{_stride(node)}"
    if op.window.dilation != (1, 1):
        down, right = op.window.dilation
        text += f", dilation {down if down == right or op.window.kernel[1] == 1 else format_shape((down, right))}"
    return text if op.groups == 1 or depthwise else f"{text}, {op.groups} groups"


def _deconv(node: Node, graph: Graph) -> str:
    text = _stride(node).replace("/", "stride ")  # it makes the image larger
    return f"{_window(node)} deconv, {node.types[0].shape[-1]}{text}"


def _linear(node: Node, graph: Graph) -> str:
    binary = isinstance(graph[node.operands[1].node].op, ops.Binarize)
    return f"{'binary ' if binary else ''}fc {node.types[0].shape[-1]}"


def _pool(name: str) -> Callable[[Node, Graph], str]:
    return lambda node, graph: f"{_window(node)} {name}{_pool_stride(node)}"


def _activation(node: Node, graph: Graph) -> str:
    assert isinstance(node.op, ops.Activation)
    return node.op.kind.replace("_", " ")


def _dropout(node: Node, graph: Graph) -> str:
    assert isinstance(node.op, ops.Dropout)
    return f"dropout {node.op.rate:g}"


def _scale(node: Node, graph: Graph) -> str:
    assert isinstance(node.op, ops.Scale)
    return f"one arm x {node.op.factor:g}"


def _shortcut(node: Node, graph: Graph) -> str:
    assert isinstance(node.op, ops.PadShortcut)
    return f"subsample and zero-fill, {node.op.channels}{_over(node.op.stride)}"


def _upsample(node: Node, graph: Graph) -> str:
    assert isinstance(node.op, ops.Upsample)
    return f"{node.op.mode} up, x{format_shape(node.op.factor)}"


def _maxout(node: Node, graph: Graph) -> str:
    assert isinstance(node.op, ops.Maxout)
    return f"maxout of {node.op.pieces}"


def _fixed(text: str) -> Callable[[Node, Graph], str]:
    return lambda node, graph: text


_WORDS: dict[type[ops.Op], Callable[[Node, Graph], str]] = {
    ops.Conv: _conv,
    ops.ConvDgrad: _deconv,
    ops.Linear: _linear,
    ops.Rbf: lambda node, graph: f"rbf {node.types[0].shape[-1]}",
    ops.MaxPool: _pool("max pool"),
    ops.AvgPool: _pool("average pool"),
    ops.SumPool: _pool("L2 pool"),
    ops.GlobalAvgPool: _fixed("global average pool"),
    ops.BatchNorm: _fixed("bn"),
    ops.PositionBias: _fixed("bias per position"),
    ops.PRelu: _fixed("prelu"),
    ops.Activation: _activation,
    ops.Dropout: _dropout,
    ops.Scale: _scale,
    ops.PadShortcut: _shortcut,
    ops.Upsample: _upsample,
    ops.Maxout: _maxout,
}
