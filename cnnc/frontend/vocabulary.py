"""The words of the language: what may stand where, for messages and for checks the grammar leaves open."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

ACTIVATIONS = ("relu", "tanh", "sigmoid", "softmax")
LAYERS = ("conv", "maxpool", "avgpool", "globalavgpool", "fc", "bn", "dropout", "flatten", *ACTIVATIONS)
DEFAULTS = ("CONV", "POOL", "FC", "BN", "DROPOUT")
HEAD = ("model", "input", "Order", "Nf", "classes", "train")
TRAIN = ("loss", "optimizer", "batch", "epochs")

# Which default line holds for a layer.
DEFAULT_OF = {
    "conv": "CONV",
    "maxpool": "POOL",
    "avgpool": "POOL",
    "fc": "FC",
    "bn": "BN",
    "dropout": "DROPOUT",
}

_SPATIAL = ("f=", "s=", "same", "same=tf", "valid", "pad=")
_AFFINE = ("bias", "nobias", "bn", "nobn", *ACTIVATIONS, "linear")
OPTIONS: dict[str, tuple[str, ...]] = {
    "conv": (*_SPATIAL, "dilation=", "groups=", *_AFFINE),
    "maxpool": (*_SPATIAL, "ceil"),
    "avgpool": (*_SPATIAL, "ceil", "countpad"),
    "fc": _AFFINE,
    "bn": ("eps=", "momentum="),
    "sgd": ("lr=", "momentum=", "weight_decay=", "decay="),
}

ANY_OPTION = frozenset(name.split("=")[0] for names in OPTIONS.values() for name in names)

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
    "pad": "padding",
    "bias": "bias",
    "nobias": "bias",
    "bn": "bn",
    "nobn": "bn",
    "linear": "activation",
    **dict.fromkeys(ACTIVATIONS, "activation"),
}

KEYWORDS = frozenset(
    (
        *(*LAYERS, *DEFAULTS, *HEAD, *TRAIN),
        *("same", "tf", "valid", "pad", "dilation", "groups", "bias", "nobias", "nobn", "linear", "ceil", "countpad"),
        *("eps", "momentum", "lr", "weight_decay", "decay"),
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
    return OPTIONS.get({"POOL": "avgpool", "optimizer": "sgd"}.get(head, head.lower()), ())


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
