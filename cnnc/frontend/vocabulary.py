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
    "deconv": (*_SPATIAL, "dilation=", "groups=", *_AFFINE, "weights=", "fixed"),
    "sepconv": (*_SPATIAL, "dilation=", "m=", *_AFFINE),
    "dwconv": (*_SPATIAL, "dilation=", "m=", *_AFFINE),
    "maxpool": (*_SPATIAL, "ceil"),
    "avgpool": (*_SPATIAL, "ceil", "countpad"),
    "l2pool": (*_SPATIAL, "ceil"),
    "lcn": ("f=", "eps="),
    "subsample": (*_SPATIAL, "ceil", *ACTIVATIONS),
    "fc": (*_AFFINE, *_WEIGHTS),
    "bn": ("eps=", "momentum=", "nogamma"),
    "lrn": ("n=", "alpha=", "beta=", "k="),
    "rbf": ("codes=",),
    "upsample": ("nearest", "bilinear"),
    "crop": ("offset=",),
    "shortcut": ("A", "B", "C", "s=", "width="),
    "add": ACTIVATIONS,
    "concat": ACTIVATIONS,
    "mul": ACTIVATIONS,
    "sgd": ("lr=", "momentum=", "weight_decay=", "decay="),
}

ANY_OPTION = frozenset(name.split("=")[0] for names in OPTIONS.values() for name in names)


def takes_word(head: str, word: str, has_value: bool) -> bool:
    """Whether a word that the grammar leaves open (``fixed``, ``eps=``) is an option of this keyword."""
    return word + "=" * has_value in OPTIONS.get(head, ())


def head_of_default(kind: str) -> str:
    """The keyword whose options a default line takes."""
    return {"POOL": "avgpool"}.get(kind, kind.lower())


# What other tools call it.
_SYNONYMS = {
    **dict.fromkeys(("kernel", "kernel_size", "ksize", "filter", "filter_size", "size"), "f"),
    **dict.fromkeys(("stride", "strides", "step"), "s"),
    **dict.fromkeys(("padding", "p"), "pad"),
    **dict.fromkeys(("group", "groups"), "groups"),
    **dict.fromkeys(("batchnorm", "batch_norm", "batchnorm2d", "batchnormalization"), "bn"),
    **dict.fromkeys(("dense", "linear", "fully_connected"), "fc"),
    **dict.fromkeys(("conv2d", "convolution"), "conv"),
    **dict.fromkeys(("max_pool", "max_pooling", "maxpooling2d", "maxpool2d"), "maxpool"),
    **dict.fromkeys(("avg_pool", "average_pool", "averagepooling2d", "avgpool2d"), "avgpool"),
    **dict.fromkeys(("gap", "global_avg_pool", "globalaveragepooling2d"), "globalavgpool"),
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
    **dict.fromkeys(("A", "B", "C"), "option"),  # of a shortcut
    "linear": "activation",
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


def choice(word: str, words: Iterable[str], what: str) -> str:
    """A hint for an unknown word: the likely one, else all of them."""
    words = list(words)
    likely = suggestion(word, words)
    if likely:
        return f"did you mean `{likely}`?"
    return f"{what} {', '.join(words)}"
