"""The words of the language: what may stand where, for messages and for checks the grammar leaves open."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

ACTIVATIONS = (
    "relu",
    "tanh",
    "sigmoid",
    "softmax",
    "leaky_relu",
    "elu",
    "prelu",
    "scaled_tanh",
    "hard_sigmoid",
    "softsign",
    "sign",
)
MERGES = ("add", "concat", "mul")
LAYERS = (
    *("conv", "deconv", "dwconv", "sepconv", "fc", "maxpool", "avgpool", "l2pool", "globalavgpool", "subsample"),
    *("bn", "lrn", "lcn", "dropout", "flatten", "maxout", "shuffle", "scale", "rbf", "upsample", "zeropad", "crop"),
    *("identity", "shortcut", "repeat", *MERGES, *ACTIVATIONS),
)
DEFAULTS = ("CONV", "DECONV", "SEPCONV", "DWCONV", "POOL", "FC", "BN", "LRN", "DROPOUT")
HEAD = ("model", "input", "Order", "Nf", "classes", "train", "use", "block", "from", "head")
TRAIN = ("loss", "optimizer", "batch", "epochs")

# Which default line holds for a layer.
DEFAULT_OF = {
    "conv": "CONV",
    "deconv": "DECONV",
    "sepconv": "SEPCONV",
    "dwconv": "DWCONV",
    "maxpool": "POOL",
    "avgpool": "POOL",
    "l2pool": "POOL",
    "fc": "FC",
    "bn": "BN",
    "lrn": "LRN",
    "dropout": "DROPOUT",
}

_PADDING = ("same", "same=tf", "valid", "causal", "pad=")
_SPATIAL = ("f=", "s=", *_PADDING)
_AFFINE = ("bias", "nobias", "bn", "nobn", *ACTIVATIONS, "linear")
_WEIGHTS = ("weights=", "fixed", "binary")
OPTIONS: dict[str, tuple[str, ...]] = {
    "conv": (*_SPATIAL, "dilation=", "groups=", "connect=", "bias=position", *_AFFINE, *_WEIGHTS),
    "deconv": ("f=", "s=", "same", "valid", "pad=", "dilation=", "groups=", *_AFFINE, "weights=", "fixed"),
    "sepconv": (*_SPATIAL, "dilation=", "m=", *_AFFINE),
    "dwconv": (*_SPATIAL, "dilation=", "m=", *_AFFINE),
    "maxpool": (*_SPATIAL, "ceil"),
    "avgpool": (*_SPATIAL, "ceil", "countpad"),
    "l2pool": (*_SPATIAL, "ceil"),
    "lcn": ("f=", "eps="),
    "subsample": (*_SPATIAL, "ceil", *ACTIVATIONS),
    "fc": (*_AFFINE, *_WEIGHTS),
    "bn": ("eps=", "momentum=", "nogamma", *ACTIVATIONS),
    "lrn": ("n=", "alpha=", "beta=", "k="),
    "rbf": ("codes=",),
    "upsample": ("nearest", "bilinear"),
    "crop": ("offset=",),
    "shortcut": ("A", "B", "C", "s=", "width="),
    "add": (*ACTIVATIONS, "linear"),
    "concat": (*ACTIVATIONS, "linear"),
    "mul": (*ACTIVATIONS, "linear"),
    "sgd": ("lr=", "momentum=", "weight_decay=", "decay="),
}

ANY_OPTION = frozenset(name.split("=")[0] for names in OPTIONS.values() for name in names)


def takes_word(head: str, word: str, has_value: bool) -> bool:
    """Whether a word that the grammar leaves open (``fixed``, ``eps=``) is an option of this keyword."""
    return word + "=" * has_value in OPTIONS.get(head, ())


def takes(head: str, option: str) -> bool:
    """Whether an option, by its name in the syntax tree, is one of this keyword."""
    if option == "rate":  # the number of `DROPOUT: 0.5`
        return head == "dropout"
    name = {"size": "f", "/": "s"}.get(option, option)
    return name in OPTIONS.get(head, ()) or f"{name}=" in OPTIONS.get(head, ())


def head_of_default(kind: str) -> str:
    """The keyword whose options a default line takes."""
    return {"POOL": "avgpool"}.get(kind, kind.lower())


# What other tools call it.
_SYNONYMS = {
    **dict.fromkeys(("kernel", "kernel_size", "ksize", "filter", "filter_size", "pool_size", "size"), "f"),
    **dict.fromkeys(("stride", "strides", "step"), "s"),
    **dict.fromkeys(("padding", "p"), "pad"),
    **dict.fromkeys(("group", "groups"), "groups"),
    **dict.fromkeys(("dilation_rate", "dilations"), "dilation"),
    **dict.fromkeys(("multiplier", "depth_multiplier", "channel_multiplier"), "m"),
    **dict.fromkeys(("no_bias", "use_bias", "without_bias"), "nobias"),
    **dict.fromkeys(("ceil_mode",), "ceil"),
    **dict.fromkeys(("count_include_pad",), "countpad"),
    **dict.fromkeys(("batchnorm", "batch_norm", "batchnorm1d", "batchnorm2d", "batchnormalization"), "bn"),
    **dict.fromkeys(("dense", "linear", "fully_connected", "affine", "inner_product", "innerproduct"), "fc"),
    **dict.fromkeys(("conv1d", "conv2d", "convolution", "convolutional", "convolution2d"), "conv"),
    **dict.fromkeys(
        ("conv2dtranspose", "conv1dtranspose", "convtranspose2d", "convtranspose1d", "conv_transpose", "deconvolution"),
        "deconv",
    ),
    **dict.fromkeys(("transposed_conv", "transpose_conv", "upconv", "deconvolutional"), "deconv"),
    **dict.fromkeys(("depthwise_conv", "depthwiseconv2d", "depthwise_conv2d", "depthwise"), "dwconv"),
    **dict.fromkeys(("separableconv2d", "separable_conv", "separable_conv2d", "separable"), "sepconv"),
    **dict.fromkeys(("max_pool", "max_pooling", "maxpooling2d", "maxpool1d", "maxpool2d", "pool"), "maxpool"),
    **dict.fromkeys(("avg_pool", "average_pool", "averagepooling2d", "avgpool1d", "avgpool2d", "meanpool"), "avgpool"),
    **dict.fromkeys(("lppool", "lp_pool", "lppool2d", "l2_pool"), "l2pool"),
    **dict.fromkeys(("gap", "global_avg_pool", "globalaveragepooling2d", "adaptiveavgpool2d"), "globalavgpool"),
    **dict.fromkeys(("localresponsenorm", "local_response_norm", "local_response_normalization", "norm"), "lrn"),
    **dict.fromkeys(("localcontrastnorm", "local_contrast_norm", "contrast_norm"), "lcn"),
    **dict.fromkeys(("subsampling", "sub_sampling", "sub_sample"), "subsample"),
    **dict.fromkeys(("drop", "dropout2d"), "dropout"),
    **dict.fromkeys(("upsampling", "upsampling2d", "upsample2d", "unpool", "resize", "interpolate"), "upsample"),
    **dict.fromkeys(("zeropadding", "zeropadding2d", "zeropad2d", "zero_pad", "pad2d"), "zeropad"),
    **dict.fromkeys(("cropping", "cropping2d", "centercrop", "center_crop"), "crop"),
    **dict.fromkeys(("channel_shuffle", "channelshuffle"), "shuffle"),
    **dict.fromkeys(("concatenate", "cat", "concatenation", "depth_concat", "filter_concat"), "concat"),
    **dict.fromkeys(("sum", "eltwise", "plus", "residual"), "add"),
    **dict.fromkeys(("multiply", "product"), "mul"),
    **dict.fromkeys(("route", "input_from"), "from"),
    **dict.fromkeys(("skip", "skip_connection"), "shortcut"),
    **dict.fromkeys(("radial_basis", "radialbasis"), "rbf"),
    **dict.fromkeys(("leakyrelu", "lrelu", "leaky"), "leaky_relu"),
    **dict.fromkeys(("parametric_relu", "parametricrelu"), "prelu"),
    **dict.fromkeys(("scaledtanh", "lecun_tanh"), "scaled_tanh"),
    **dict.fromkeys(("hardsigmoid",), "hard_sigmoid"),
    **dict.fromkeys(("logistic",), "sigmoid"),
    **dict.fromkeys(("binarize", "threshold", "step_function"), "sign"),
    **dict.fromkeys(("log_softmax", "soft_max"), "softmax"),
    **dict.fromkeys(("learning_rate", "rate"), "lr"),
    **dict.fromkeys(("wd", "l2"), "weight_decay"),
    "batch_size": "batch",
}

# Options that answer the same question: two of them in one statement contradict each other.
CONCERN = {
    "size": "size",
    "f": "size",
    "/": "stride",
    "s": "stride",
    "same": "padding",
    "valid": "padding",
    "causal": "padding",
    "pad": "padding",
    "bias": "bias",
    "nobias": "bias",
    "bn": "bn",
    "nobn": "bn",
    "linear": "activation",
    "nearest": "mode",
    "bilinear": "mode",
    "A": "option",
    "B": "option",
    "C": "option",
    **dict.fromkeys(ACTIVATIONS, "activation"),
}

KEYWORDS = frozenset(
    (
        *(*LAYERS, *DEFAULTS, *HEAD, *TRAIN, "like", "first", "last"),
        *("same", "tf", "valid", "causal", "pad", "dilation", "groups", "bias", "nobias", "nobn", "linear"),
        *("ceil", "countpad"),
    )
)

LETTERS = {
    "C": "conv",
    "P": "max pool",
    "A": "average pool",
    "G": "global average pool",
    "L": "LRN",
    "N": "batch norm",
    "D": "dropout",
    "F": "fully connected",
    "S": "linear + softmax",
}
WITH_SIZE = "CPA"  # letters that may carry a size and a stride


def options_of(head: str) -> tuple[str, ...]:
    """The options of a layer (``conv``) or of a default line (``CONV``)."""
    return OPTIONS.get("sgd" if head == "optimizer" else head_of_default(head), ())


def suggestion(word: str, words: Iterable[str]) -> str | None:
    """The known word that a misspelt one most likely means."""
    lowered = {candidate.rstrip("=").lower(): candidate for candidate in words}
    synonym = _SYNONYMS.get(word.lower())
    if synonym in lowered:
        return lowered[synonym]
    close = difflib.get_close_matches(word[:40].lower(), lowered, n=1, cutoff=0.7)
    return lowered[close[0]] if close else None


def same_option(word: str, options: Iterable[str]) -> str | None:
    """The option with a value that a word names, here or in other tools."""
    return next((name for name in (word, _SYNONYMS.get(word.lower(), "")) if f"{name}=" in options), None)


def choice(word: str, words: Iterable[str], what: str) -> str:
    """A hint for an unknown word: the likely one, else all of them."""
    words = list(words)
    likely = suggestion(word, words)
    if likely:
        return f"did you mean `{likely}`?"
    return f"{what} {listed(words)}"


def listed(words: Iterable[str]) -> str:
    """Words as a list, with all activations as one."""
    shown = ["an activation" if word in ACTIVATIONS else word for word in words]
    return ", ".join(dict.fromkeys(shown))
