"""Resolved layers as statements in full."""

from __future__ import annotations

from collections.abc import Sequence

from cnnc.frontend.layer_parts import Activate, Affine, Norm, Padding, Weights, WindowSettings
from cnnc.frontend.layers import (
    ActivationLayer,
    BareLayer,
    ContrastLayer,
    ConvLayer,
    CountLayer,
    CropLayer,
    DeconvLayer,
    DenseLayer,
    DepthwiseLayer,
    DropoutLayer,
    MergeLayer,
    NormLayer,
    PoolLayer,
    RbfLayer,
    Resolved,
    ResponseLayer,
    ScaleLayer,
    StridedCopyLayer,
    SubsampleLayer,
    UpsampleLayer,
    ZeroPadLayer,
)
from cnnc.frontend.settings import NUMBERS
from cnnc.ir.window import Pad, Pair


def norm_before(layer: Resolved, norm: Norm) -> Norm:
    """What must hold for bn by default before a layer is written, where ``norm`` does so far."""
    if isinstance(layer, (ConvLayer, DeconvLayer, DepthwiseLayer, DenseLayer)) and layer.affine.norm is not None:
        return layer.affine.norm  # the flag takes no settings of its own
    if isinstance(layer, NormLayer) and layer.norm.gamma and not norm.gamma:
        return layer.norm  # no option brings gamma back
    return norm


def norm_text(norm: Norm, between: str) -> str:
    words = [f"eps={norm.eps!r}", f"momentum={norm.momentum!r}", *["nogamma"] * (not norm.gamma)]
    return between.join(words)


def layer_text(layer: Resolved, norm: Norm, sequence: bool) -> str:
    """One layer in full; ``norm`` is what holds for bn by default."""
    return " ".join(_words(layer, norm, sequence))


def _words(layer: Resolved, norm: Norm, sequence: bool) -> Sequence[str]:
    match layer:
        case ConvLayer():
            return [f"conv {layer.affine.width}", *_conv_words(layer, sequence), *_connect_words(layer.connect)]
        case DeconvLayer():
            return [f"deconv {layer.affine.width}", *_conv_words(layer, sequence)]
        case DepthwiseLayer():
            times = [f"m={layer.multiplier}"] * (layer.multiplier != 1)
            return ["dwconv", *_window_words(layer.window, sequence), *times, *_affine_words(layer.affine)]
        case DenseLayer():
            return [f"fc {layer.affine.width}", *_affine_words(layer.affine)]
        case RbfLayer():
            return [f"rbf {layer.count}", f"codes={_literal(layer.codes)}"]
        case PoolLayer():
            count = ["countpad"] * (layer.count_pad and layer.kind == "avg")
            return [f"{layer.kind}pool", *_window_words(layer.window, sequence, is_pool=True), *count]
        case SubsampleLayer():
            words = _window_words(layer.window, sequence, is_pool=True)
            return ["subsample", *words, *_activation_words(layer.activation)]
        case ContrastLayer():
            return ["lcn", _size(layer.kernel, sequence), f"eps={layer.eps!r}"]
        case NormLayer():
            own = [] if layer.norm == norm else [norm_text(layer.norm, " ")]
            return ["bn", *own, *_activation_words(layer.activation)]
        case ResponseLayer():
            return ["lrn", f"n={layer.n}", f"alpha={layer.alpha!r}", f"beta={layer.beta!r}", f"k={layer.k!r}"]
        case DropoutLayer():
            return [f"dropout {layer.rate!r}"]
    return _moving_words(layer, sequence)


def _moving_words(layer: Resolved, sequence: bool) -> Sequence[str]:
    match layer:
        case ActivationLayer():
            return _activation_words(layer.activation)
        case CountLayer():
            return [f"{layer.keyword} {layer.count}"]
        case UpsampleLayer():
            return [f"upsample {_pair(layer.factor, sequence)}", layer.mode]
        case ZeroPadLayer():
            return [f"zeropad {_border(layer.pad, sequence)}"]
        case CropLayer():
            size = f"like {layer.like}" if layer.size is None else f"{layer.size[0]}x{layer.size[1]}"
            offset = [] if layer.offset is None else [f"offset={_pair(layer.offset, sequence)}"]
            return [f"crop {size}", *offset]
        case ScaleLayer():
            return ["scale"] if layer.factor is None else [f"scale {layer.factor!r}"]
        case StridedCopyLayer():
            return [f"shortcut A s={_pair(layer.stride, sequence)} width={layer.width}"]
        case MergeLayer():
            terms = (source if factor == 1 else f"{factor!r} * {source}" for factor, source in layer.operands)
            return [f"{layer.kind}({', '.join(terms)})", *_activation_words(layer.activation)]
    assert isinstance(layer, BareLayer), "other structure is no statement"
    return [layer.keyword]


def _conv_words(layer: ConvLayer | DeconvLayer, sequence: bool) -> list[str]:
    groups = [f"groups={layer.groups}"] * (layer.groups != 1)
    return [*_window_words(layer.window, sequence), *groups, *_affine_words(layer.affine)]


def _affine_words(affine: Affine) -> list[str]:
    words = [] if affine.bias else ["nobias"]
    words += ["bias=position"] * (affine.bias and affine.position_bias)
    words += ["bn"] * (affine.norm is not None)
    return [*words, *_activation_words(affine.activation), *_weight_words(affine.weights)]


def _activation_words(found: Activate | None) -> list[str]:
    if found is None:
        return []
    return [f"{found.kind}({found.alpha!r})" if found.kind in NUMBERS else found.kind]


def _weight_words(weights: Weights) -> list[str]:
    words = [f"weights={_literal(weights.values)}"] * bool(weights.values)
    words += ["weights=bilinear"] * weights.bilinear
    return words + ["fixed"] * weights.fixed + ["binary"] * weights.binary


def _connect_words(connect: tuple[tuple[int, ...], ...]) -> list[str]:
    rows = " | ".join(" ".join(map(str, row)) for row in connect)
    return [f"connect=[{rows}]"] * bool(connect)


def _literal(values: Sequence[float]) -> str:
    """Numbers in brackets; codes of 1 and -1 as words of signs."""
    if len(values) > 1 and set(values) <= {1.0, -1.0}:
        return f"[{''.join('+' if value > 0 else '-' for value in values)}]"
    return f"[{' '.join(str(int(value)) if value == int(value) else repr(value) for value in values)}]"


def _window_words(window: WindowSettings, sequence: bool, is_pool: bool = False) -> list[str]:
    words = [_size(window.kernel, sequence)]
    # A pool's stride is always shown: its default is its size, unlike a conv's.
    if is_pool or window.stride != (1, 1):
        stride = _pair(window.stride, sequence)
        words = [*words, f"s={stride}"] if sequence else [f"{words[0]}/{stride}"]
    words += _padding_words(window.padding, sequence)
    if window.dilation != (1, 1):
        words.append(f"dilation={_pair(window.dilation, sequence)}")
    return words + ["ceil"] * window.ceil


def _size(kernel: Pair, sequence: bool) -> str:
    return f"f={kernel[0]}" if sequence else f"{kernel[0]}x{kernel[1]}"


def _padding_words(padding: Padding, sequence: bool) -> list[str]:
    if padding.kind != "explicit":
        return ["same=tf" if padding.kind == "tf" else padding.kind]
    return [f"pad={_border(padding.pad, sequence)}"] if any(padding.pad) else []


def _border(pad: Pad, sequence: bool) -> str:
    top, bottom, left, right = pad
    if sequence:
        return str(top) if top == bottom else f"({top},{bottom})"
    return _pair((top, left), False) if (top, left) == (bottom, right) else f"({top},{bottom},{left},{right})"


def _pair(pair: Pair, sequence: bool) -> str:
    return str(pair[0]) if sequence or pair[0] == pair[1] else f"({pair[0]},{pair[1]})"
