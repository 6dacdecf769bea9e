"""Any program in explicit statements: no defaults, no slide, every layer labelled and its shape asserted."""

from __future__ import annotations

from cnnc.frontend.build_graph import Built
from cnnc.frontend.layers import (
    Affine,
    BareLayer,
    ConvLayer,
    DenseLayer,
    DropoutLayer,
    Norm,
    NormLayer,
    Padding,
    PoolLayer,
    Resolved,
    WindowSettings,
)
from cnnc.frontend.lower import Lowered
from cnnc.frontend.table import Line, align
from cnnc.frontend.train_block import Training
from cnnc.ir.training import TrainConfig
from cnnc.ir.types import format_shape
from cnnc.ir.window import Pair


def expand_lowered(lowered: Lowered) -> str:
    """The program's text in explicit statements; it lowers to the same graph."""
    model = lowered.model
    head = f"model {model.name}\ninput {format_shape(model.input_shape)}\n\n"
    return head + "".join(line + "\n" for line in align(_lines(lowered.built))) + _train_text(lowered.training)


def _lines(built: tuple[Built, ...]) -> list[Line]:
    lines: list[Line] = []
    norm = Norm()  # what a `bn` flag means at this line of the new text
    for item in built:
        wanted = _flag_norm(item.layer)
        if wanted is not None and wanted != norm:
            norm = wanted
            # The flag takes no settings of its own, so the default line carries them.
            lines.append(Line(body=f"BN: eps={norm.eps!r}, momentum={norm.momentum!r}", free=True))
        lines.append(Line(f"{item.layer.place.name}:", _statement(item.layer, norm), f"=> {format_shape(item.shape)}"))
    return lines


def _flag_norm(layer: Resolved) -> Norm | None:
    return layer.affine.norm if isinstance(layer, (ConvLayer, DenseLayer)) else None


def _statement(layer: Resolved, norm: Norm) -> str:
    """One layer in full; ``norm`` is what holds for bn by default."""
    if isinstance(layer, ConvLayer):
        words = [f"conv {layer.affine.width}", *_window_words(layer.window)]
        words += [f"groups={layer.groups}"] * (layer.groups != 1)
        return " ".join(words + _affine_words(layer.affine))
    if isinstance(layer, DenseLayer):
        return " ".join([f"fc {layer.affine.width}", *_affine_words(layer.affine)])
    if isinstance(layer, PoolLayer):
        words = [f"{layer.kind}pool", *_window_words(layer.window, is_pool=True)]
        return " ".join(words + ["countpad"] * (layer.count_pad and layer.kind == "avg"))
    if isinstance(layer, NormLayer):
        same = layer.norm == norm
        return "bn" if same else f"bn eps={layer.norm.eps!r} momentum={layer.norm.momentum!r}"
    if isinstance(layer, DropoutLayer):
        return f"dropout {layer.rate!r}"
    assert isinstance(layer, BareLayer)
    return layer.keyword


def _affine_words(affine: Affine) -> list[str]:
    words = [] if affine.bias else ["nobias"]
    words += ["bn"] * (affine.norm is not None)
    return words + [affine.activation] * (affine.activation is not None)  # type: ignore[list-item]  # None times 0


def _window_words(window: WindowSettings, is_pool: bool = False) -> list[str]:
    size = f"{window.kernel[0]}x{window.kernel[1]}"
    # A pool's stride is always shown: its default is its size, unlike a conv's.
    if is_pool or window.stride != (1, 1):
        size += f"/{_pair(window.stride)}"
    words = [size, *_padding_words(window.padding)]
    if window.dilation != (1, 1):
        words.append(f"dilation={_pair(window.dilation)}")
    return words + ["ceil"] * window.ceil


def _padding_words(padding: Padding) -> list[str]:
    if padding.kind != "explicit":
        return ["same" if padding.kind == "same" else "same=tf"]
    top, bottom, left, right = padding.pad
    if not any(padding.pad):
        return []
    if (top, left) == (bottom, right):
        return [f"pad={_pair((top, left))}"]
    return [f"pad=({top},{bottom},{left},{right})"]


def _pair(pair: Pair) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"({pair[0]},{pair[1]})"


def _train_text(training: Training) -> str:
    """The train block, unless it says nothing but defaults."""
    config = training.config
    if config == TrainConfig() and training.decay_all:
        return ""
    sgd = config.optimizer
    decay = "" if training.decay_all else " decay=weights"
    return (
        "\ntrain {\n"
        f"  loss {config.loss}\n"
        f"  optimizer sgd lr={sgd.lr!r} momentum={sgd.momentum!r} weight_decay={sgd.weight_decay!r}{decay}\n"
        f"  batch {config.batch}\n"
        f"  epochs {config.epochs}\n"
        "}\n"
    )
