"""Resolved statements: defaults applied, ``Order`` spelt out, names given, numbers known; shapes are not."""

from __future__ import annotations

from dataclasses import dataclass

from cnnc.frontend.layer_parts import Activate, Affine, Norm, Place, WindowSettings
from cnnc.ir.window import Pad, Pair


@dataclass(frozen=True)
class ConvLayer:
    """``connect`` lists the input maps of each filter; empty where all filters read all."""

    place: Place
    window: WindowSettings
    groups: int
    affine: Affine
    connect: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class DeconvLayer:
    place: Place
    window: WindowSettings
    groups: int
    affine: Affine


@dataclass(frozen=True)
class DepthwiseLayer:
    """``multiplier`` filters for each channel."""

    place: Place
    window: WindowSettings
    multiplier: int
    affine: Affine


@dataclass(frozen=True)
class DenseLayer:
    place: Place
    affine: Affine


@dataclass(frozen=True)
class RbfLayer:
    """``codes`` has the codes one after another."""

    place: Place
    count: int
    codes: tuple[float, ...]


@dataclass(frozen=True)
class PoolLayer:
    place: Place
    kind: str  # max, avg or l2
    window: WindowSettings
    count_pad: bool = False


@dataclass(frozen=True)
class SubsampleLayer:
    """LeNet's pool: the sum of each window, times a coefficient, plus a bias, and an activation."""

    place: Place
    window: WindowSettings
    activation: Activate | None


@dataclass(frozen=True)
class ContrastLayer:
    """Local contrast normalisation."""

    place: Place
    kernel: Pair
    eps: float


@dataclass(frozen=True)
class NormLayer:
    place: Place
    norm: Norm
    activation: Activate | None = None


@dataclass(frozen=True)
class ResponseLayer:
    """Local response normalisation."""

    place: Place
    n: int
    alpha: float
    beta: float
    k: float


@dataclass(frozen=True)
class DropoutLayer:
    place: Place
    rate: float


@dataclass(frozen=True)
class ActivationLayer:
    place: Place
    activation: Activate


@dataclass(frozen=True)
class CountLayer:
    """``maxout`` and ``shuffle``: what regroups channels by a number."""

    place: Place
    keyword: str
    count: int


@dataclass(frozen=True)
class UpsampleLayer:
    place: Place
    factor: Pair
    mode: str


@dataclass(frozen=True)
class ZeroPadLayer:
    place: Place
    pad: Pad


@dataclass(frozen=True)
class CropLayer:
    """A window of ``size``, or of the height and width of the layer ``like``; centred without ``offset``."""

    place: Place
    size: Pair | None
    like: str
    offset: Pair | None


@dataclass(frozen=True)
class ScaleLayer:
    """Times ``factor``, or times a learned number per channel."""

    place: Place
    factor: float | None


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
    activation: Activate | None = None


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
Products = ConvLayer | DeconvLayer | DepthwiseLayer | DenseLayer | RbfLayer
Pools = PoolLayer | SubsampleLayer | ContrastLayer
Plain = NormLayer | ResponseLayer | DropoutLayer | ActivationLayer | CountLayer | ScaleLayer | BareLayer
Moves = UpsampleLayer | ZeroPadLayer | CropLayer
Resolved = Products | Pools | Plain | Moves | Structure
