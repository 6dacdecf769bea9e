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


def suggestion(word: str, words: Iterable[str]) -> str | None:
    """The known word that a misspelt one most likely means."""
    lowered = {candidate.lower(): candidate for candidate in words}
    close = difflib.get_close_matches(word[:40].lower(), lowered, n=1, cutoff=0.7)
    return lowered[close[0]] if close else None


def choice(word: str, words: Iterable[str], what: str) -> str:
    """A hint for an unknown word: the likely one, else all of them."""
    words = list(words)
    likely = suggestion(word, words)
    if likely:
        return f"did you mean `{likely}`?"
    return f"{what}: {', '.join(words)}"
