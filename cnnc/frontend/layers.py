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
class FromLayer:
    """What follows reads the layer of that full name (or ``input``), not the one before."""

    place: Place
    source: str


@dataclass(frozen=True)
class MergeLayer:
    """``add``, ``concat`` or ``mul`` of layers by full name, each times its factor; reads nothing else."""

    place: Place
    kind: str
    operands: tuple[tuple[float, str], ...]
    activation: str | None = None
    alpha: float | None = None  # what the activation's parentheses hold


@dataclass(frozen=True)
class ShortcutLayer:
    """``shortcut A|B|C``: becomes nothing, a strided copy or a projection, so that it gets the shape of ``like``."""

    place: Place
    option: str
    like: str
    bias: bool
    norm: Norm | None


@dataclass(frozen=True)
class StridedCopyLayer:
    """``shortcut A s=2 width=64``: every s-th pixel, zeros for the new channels."""

    place: Place
    stride: Pair
    width: int


@dataclass(frozen=True)
class HeadStart:
    """What follows until ``HeadEnd`` belongs to a training head; its last layer is the head's output."""

    place: Place
    name: str
    weight: float


@dataclass(frozen=True)
class HeadEnd:
    """The main flow goes on as it was before the head."""

    place: Place
    name: str


@dataclass(frozen=True)
class CheckShape:
    """The assertion behind a call or repetition, about the layer before; after an error it restores the shape."""

    place: Place


@dataclass(frozen=True)
class FailedLayer:
    """Stands for a statement with errors that are already noted; what follows it raises nothing more."""

    place: Place


Structure = FromLayer | MergeLayer | ShortcutLayer | StridedCopyLayer | HeadStart | HeadEnd | CheckShape | FailedLayer
Resolved = ConvLayer | DenseLayer | PoolLayer | NormLayer | DropoutLayer | BareLayer | Structure
