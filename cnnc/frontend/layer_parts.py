"""What resolved layers are made of: their places in the text, and settings that several of them share."""

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

    @property
    def shown(self) -> str:
        """How messages call the layer."""
        return self.alias or self.name

    def blame(self, attribute: str) -> Span:
        return self.operands.get(attribute, self.head)


@dataclass(frozen=True)
class Padding:
    """``explicit`` with ``pad``; ``same`` and ``tf`` depend on the kernel, ``tf`` also on the image.

    ``causal`` pads before the first step alone.
    """

    kind: str
    pad: Pad = (0, 0, 0, 0)


@dataclass(frozen=True)
class Norm:
    """Settings of a batch norm; without ``gamma`` it has a beta only."""

    eps: float = 1e-5
    momentum: float = 0.1
    gamma: bool = True


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
class Weights:
    """How weights start (``values`` in PyTorch's order, or ``bilinear``) and what training makes of them."""

    values: tuple[float, ...] = ()
    bilinear: bool = False
    fixed: bool = False
    binary: bool = False


@dataclass(frozen=True)
class Affine:
    """What conv and fc share: width, bias, batch norm, activation, in the order of computation.

    ``position_bias``: the bias has one element per position. The width of dwconv and of a shortcut is 0: it
    comes from the input.
    """

    width: int
    bias: bool
    norm: Norm | None
    activation: Activate | None
    position_bias: bool = False
    weights: Weights = Weights()
