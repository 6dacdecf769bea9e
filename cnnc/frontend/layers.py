"""Resolved statements: defaults applied, ``Order`` spelt out, names given, numbers known; shapes are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cnnc.ir.window import Pad, Pair
from cnnc.source import Span


@dataclass(frozen=True)
class Place:
    """A layer's name and where its parts stand in the text.

    ``operands`` gives the span of what an attribute came from (``kernel``, ``stride``, ``pad``, ``groups``,
    ``width``); what a default line gave is not in it and is blamed on ``head``, the keyword or letter.
    ``alias`` is another name that references may use for it: ``sep1`` for ``sep1.pointwise``.
    """

    name: str
    head: Span
    span: Span
    operands: Mapping[str, Span] = field(default_factory=dict)
    assertion: tuple[int, ...] | None = None
    assertion_span: Span | None = None
    alias: str = ""

    def blame(self, attribute: str) -> Span:
        return self.operands.get(attribute, self.head)


@dataclass(frozen=True)
class Padding:
    """``explicit`` with ``pad``; ``same`` and ``tf`` depend on the kernel, ``tf`` also on the image."""

    kind: str
    pad: Pad = (0, 0, 0, 0)


@dataclass(frozen=True)
class Norm:
    """Settings of a batch norm."""

    eps: float = 1e-5
    momentum: float = 0.1


@dataclass(frozen=True)
class Activate:
    """An activation and its number: the slope of leaky_relu, prelu's first slope, elu's alpha, sign's threshold."""

    kind: str
    alpha: float = 0.0


@dataclass(frozen=True)
class WindowSettings:
    """What conv and pool share; the Window itself needs the image where padding is ``same=tf``."""

    kernel: Pair
    stride: Pair
    padding: Padding
    dilation: Pair = (1, 1)
    ceil: bool = False


@dataclass(frozen=True)
class Affine:
    """What conv and fc share: width, bias, batch norm, activation, in the order of computation."""

    width: int
    bias: bool
    norm: Norm | None
    activation: str | None


@dataclass(frozen=True)
class ConvLayer:
    place: Place
    window: WindowSettings
    groups: int
    affine: Affine


@dataclass(frozen=True)
class DenseLayer:
    place: Place
    affine: Affine


@dataclass(frozen=True)
class PoolLayer:
    place: Place
    kind: str  # max or avg
    window: WindowSettings
    count_pad: bool = False


@dataclass(frozen=True)
class NormLayer:
    place: Place
    norm: Norm


@dataclass(frozen=True)
class DropoutLayer:
    place: Place
    rate: float


@dataclass(frozen=True)
class BareLayer:
    """A layer without settings; ``keyword`` is its statement."""

    place: Place
    keyword: str


@dataclass(frozen=True)
class FailedLayer:
    """Stands for a statement with errors that are already noted; what follows it raises nothing more."""

    place: Place


@dataclass(frozen=True)
class FromLayer:
    """What follows reads the layer ``source`` (its full name, ``input`` for the program's input)."""

    place: Place
    source: str


@dataclass(frozen=True)
class ShortcutLayer:
    """``shortcut A|B|C`` of the value that the next layer would read, to the shape of the layer ``like``.

    It stands in the stream after all layers of the other arms; ``affine`` is what ``CONV:`` says of bias and bn.
    """

    place: Place
    option: str
    like: str
    affine: Affine


@dataclass(frozen=True)
class Term:
    """One operand of a merge: the layer ``source`` times ``factor``."""

    source: str
    factor: float
    span: Span


@dataclass(frozen=True)
class MergeLayer:
    """``add``, ``concat`` or ``mul`` of layers by name; its arms stand before it in the stream."""

    place: Place
    keyword: str
    terms: tuple[Term, ...]
    activation: Activate | None


@dataclass(frozen=True)
class HeadStart:
    """What follows up to HeadEnd is a training head; the main flow goes on where it left off."""

    place: Place
    weight: float


@dataclass(frozen=True)
class HeadEnd:
    place: Place


Resolved = (
    ConvLayer
    | DenseLayer
    | PoolLayer
    | NormLayer
    | DropoutLayer
    | BareLayer
    | FailedLayer
    | FromLayer
    | ShortcutLayer
    | MergeLayer
    | HeadStart
    | HeadEnd
)
