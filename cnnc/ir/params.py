"""Parameters: names, layouts, initial values, and their places in the flat arenas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from cnnc.ir.types import format_shape

ALIGN_ELEMENTS = 64  # 256 bytes in float32, 128 in bfloat16: vector loads and descriptors need no more
ROW_ELEMENTS = 16  # 32 bytes in bfloat16: they still take what starts here, right behind another parameter


@dataclass(frozen=True)
class Init:
    """How a parameter starts.

    ``uniform``: U(-bound, bound) with bound = 1/sqrt(fan_in), PyTorch's default for conv and linear
    layers (weights: Kaiming-uniform with a = sqrt(5)); ``zeros``; ``ones``; ``constant``: ``values[0]``
    everywhere; ``values``: the numbers as written, in PyTorch's order; ``bilinear``: up-sampling kernels on the
    channel diagonal (Long et al. 2015); ``gaussian``: a window of weights that add up to 1 (local contrast
    normalisation), with standard deviation ``values[0]`` pixels.
    """

    kind: str
    fan_in: int = 0
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class ParamSpec:
    """One named tensor: how PyTorch's ``state_dict`` shapes it and how kernels store it.

    The stored array is ``torch_array.reshape(view).transpose(perm)``: a conv's OIHW becomes KRSC with
    view = torch_shape and perm = (0, 2, 3, 1); a linear layer after a flatten of H x W x C, whose
    columns are in CHW order, becomes KRSC with view = (K, C, H, W) and the same perm.
    """

    name: str
    torch_shape: tuple[int, ...]
    view: tuple[int, ...]
    perm: tuple[int, ...]
    init: Init
    trainable: bool = True
    decay: bool = True
    squeeze: tuple[int, ...] | None = None  # final shape, where it drops the 1x1 of a pointwise conv
    listed: bool = True  # False for constants of an op (a mask, ones): in no state_dict and in no count
    clipped: bool = False  # the master of a binary weight: every update keeps it in [-1, 1]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape as stored."""
        if self.squeeze is not None:
            return self.squeeze
        return tuple(self.view[axis] for axis in self.perm)

    @property
    def count(self) -> int:
        return math.prod(self.torch_shape)

    def __str__(self) -> str:
        kind = "param" if self.trainable else "buffer"
        return f"{kind}={self.name} torch={format_shape(self.torch_shape)} perm={''.join(map(str, self.perm))}"


def vector_spec(name: str, count: int, init: Init, *, trainable: bool = True, decay: bool = False) -> ParamSpec:
    """A bias, gamma, beta or running statistic: one element per channel."""
    return ParamSpec(name, (count,), (count,), (0,), init, trainable, decay)


def conv_spec(name: str, out: int, kernel: tuple[int, int], channels: int) -> ParamSpec:
    """A conv's weight: OIHW outside, KRSC inside; ``channels`` are those of one group."""
    shape = (out, channels, *kernel)
    return ParamSpec(name, shape, shape, (0, 2, 3, 1), Init("uniform", channels * math.prod(kernel)))


def linear_spec(name: str, out: int, features: int) -> ParamSpec:
    """A linear layer's weight: (out, in) both outside and inside."""
    return ParamSpec(name, (out, features), (out, features), (0, 1), Init("uniform", features))


@dataclass(frozen=True)
class Arena:
    """Parameters of one kind side by side in one flat array; offsets and counts in elements.

    Decayed parameters come first and contiguous, so that one update kernel needs one boundary; clipped ones
    lie contiguous around that boundary. Gradients, momentum and the 16-bit copy use the same offsets.

    Each group of ``together`` follows its first member without gaps, as far as counts are multiples of ROW_ELEMENTS,
    so that several layers' rows can be read and written as one array. Groups share no member, and theirs are alike
    in being decayed and clipped.
    """

    specs: tuple[ParamSpec, ...]
    together: tuple[tuple[str, ...], ...] = ()
    offsets: tuple[int, ...] = field(init=False)
    decayed: int = field(init=False)
    clipped: tuple[int, int] = field(init=False)
    count: int = field(init=False)
    _places: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_places", {spec.name: place for place, spec in enumerate(self.specs)})
        followed = {name for group in self.together for name in group[:-1]}
        offsets: dict[str, int] = {}
        total = decayed = 0
        clipped: tuple[int, int] | None = None
        for spec in self._in_order():
            offsets[spec.name] = start = total
            close = spec.name in followed and spec.count % ROW_ELEMENTS == 0
            total += spec.count
            total = total if close else -(-total // ALIGN_ELEMENTS) * ALIGN_ELEMENTS
            if spec.decay:
                decayed = total
            if spec.clipped:
                clipped = (start if clipped is None else clipped[0], total)
        object.__setattr__(self, "offsets", tuple(offsets[spec.name] for spec in self.specs))
        object.__setattr__(self, "decayed", decayed)
        object.__setattr__(self, "clipped", clipped or (0, 0))
        object.__setattr__(self, "count", total)

    def _in_order(self) -> list[ParamSpec]:
        """Specs as they lie in the arena."""
        followers = {group[0]: group[1:] for group in self.together}
        moved = {name for group in self.together for name in group[1:]}
        order: list[ParamSpec] = []
        for spec in sorted(self.specs, key=lambda spec: (not spec.decay, spec.clipped == spec.decay)):
            if spec.name not in moved:
                order += [spec, *(self.spec(name) for name in followers.get(spec.name, ()))]
        return order

    def adjacent(self, names: Sequence[str]) -> bool:
        """Whether these are parameters of the arena that follow each other without gaps, in this order."""
        known = all(name in self._places for name in names)
        return known and all(self.offset(a) + self.spec(a).count == self.offset(b) for a, b in pairwise(names))

    def offset(self, name: str) -> int:
        """First element of a parameter."""
        return self.offsets[self.index(name)]

    def spec(self, name: str) -> ParamSpec:
        return self.specs[self.index(name)]

    def index(self, name: str) -> int:
        return self._places[name]
