"""Random statements of one layer: every keyword and option, for images, sequences and vectors."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

Shape = tuple[int, ...]  # as the program writes it: HxWxC, LxC, or C

WIDTHS = (1, 2, 3, 4, 5, 7, 8, 11, 13, 16, 17, 24)
NUMBERED = {"leaky_relu": ("0", "0.1", "0.5"), "elu": ("0.5", "1", "2"), "prelu": ("0", "0.25", "1")}
ACTIVATIONS = ("relu", "tanh", "sigmoid", "scaled_tanh", "hard_sigmoid", "softsign", *NUMBERED)
MAX_CODE = 40
BIPOLAR = ("sign", "sign(0.25)", "sign(-1)")


@dataclass
class Draw:
    """Where choices come from. A ``gentle`` program has no jumps, and no batch norm of channels that hardly vary."""

    rng: random.Random
    gentle: bool = False
    shapes: dict[str, Shape] = field(default_factory=dict)  # of what may be read again, by label

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def of(self, *choices: str) -> str:
        return self.rng.choice(choices)

    def whole(self, *choices: int) -> int:
        return self.rng.choice(choices)

    def width(self) -> int:
        return self.rng.choice(WIDTHS)

    def activation(self) -> str:
        """One of all; half of the time one of the common ones."""
        if self.chance(0.4):
            return self.of("relu", "tanh", "sigmoid", "softmax")
        if not self.gentle and self.chance(0.1):
            return self.of(*BIPOLAR)
        kind = self.of(*ACTIVATIONS)
        return f"{kind}({self.of(*NUMBERED[kind])})" if kind in NUMBERED and self.chance(0.5) else kind

    def axes(self, shape: Shape, choices: tuple[int, ...]) -> str:
        """One number, or one for each axis of an image."""
        if len(shape) != 3 or self.chance(0.5):
            return str(self.whole(*choices))
        return f"({self.whole(*choices)},{self.whole(*choices)})"


def layer(draw: Draw, shape: Shape) -> str:
    """A statement that may fit this shape; the frontend is the judge of that."""
    makers = {3: IMAGE, 2: SEQUENCE, 1: VECTOR}[len(shape)]
    return draw.rng.choices(list(makers), list(makers.values()))[0](draw, shape)


def keeping(draw: Draw, shape: Shape) -> str:
    """A statement that mostly gives the shape that it takes."""
    channels = shape[-1]
    makers = [_bare, _bare, _norm, lambda d, s: d.of("lrn n=3 alpha=0.1", "scale", "scale 0.7", "dropout 0.2")]
    if len(shape) == 1:
        return draw.rng.choice([*makers, lambda d, s: f"fc {channels}{_epilogue(d)}"])(draw, shape)
    size = _size(draw, shape, (1, 2, 3), strides=())
    products = [f"conv {channels} {size} same", f"dwconv {size} same", f"sepconv {channels} {size} same"]
    makers += [lambda d, s: d.of(*products) + _epilogue(d)] * 5
    makers.append(lambda d, s: f"{d.of('maxpool', 'avgpool', 'l2pool')} {_size(d, s, (2, 3), strides=(1,))} same")
    return draw.rng.choice(makers)(draw, shape)


# -- windows --------------------------------------------------------------------------------------


def _size(
    draw: Draw, shape: Shape, kernels: tuple[int, ...] = (1, 2, 3, 3, 5), strides: tuple[int, ...] = (1, 2, 3, 4)
) -> str:
    kernel = draw.whole(*kernels)
    stride = draw.axes(shape, strides) if strides and (len(strides) == 1 or draw.chance(0.45)) else ""
    if len(shape) == 2:
        return f"f={kernel}" + (f" s={stride}" if stride else "")
    if draw.chance(0.15):
        return f"f={draw.axes(shape, kernels)}" + (f" s={stride}" if stride else "")
    second = kernel if draw.chance(0.5) else draw.whole(*kernels)
    return f"{kernel}x{second}" + (f"/{stride}" if stride else "")


def _padding(draw: Draw, shape: Shape, kinds: tuple[str, ...] = ("", " valid", " same", " same=tf")) -> str:
    if draw.chance(0.6):
        return draw.of(*kinds, " causal") if len(shape) == 2 and " same=tf" in kinds else draw.of(*kinds)
    if draw.chance(0.3):
        return f" pad={draw.whole(0, 1, 2)}"
    count = 2 if len(shape) == 2 or draw.chance(0.5) else 4
    return f" pad=({','.join(str(draw.whole(0, 1, 2, 3)) for _ in range(count))})"


def _dilation(draw: Draw, shape: Shape) -> str:
    return f" dilation={draw.axes(shape, (1, 2, 3))}" if draw.chance(0.25) else ""


def _epilogue(draw: Draw) -> str:
    words = [" nobias"] * draw.chance(0.3) + [" bn"] * draw.chance(0.25)
    words += [f" {draw.activation()}"] * draw.chance(0.6)
    draw.rng.shuffle(words)
    return "".join(words)


def _groups(draw: Draw, channels: int) -> tuple[int, int]:
    """Groups and a width that they divide."""
    if draw.chance(0.65):
        return 1, draw.width()
    groups = draw.rng.choice([count for count in range(1, channels + 1) if channels % count == 0])
    groups = channels if draw.chance(0.4) else groups
    return groups, groups * draw.whole(1, 1, 2, 3)


# -- products -------------------------------------------------------------------------------------


def conv(draw: Draw, shape: Shape) -> str:
    groups, width = _groups(draw, shape[-1])
    text = f"conv {width} {_size(draw, shape)}{_padding(draw, shape)}{_dilation(draw, shape)}"
    if groups > 1:
        text += f" groups={groups}"
    elif draw.chance(0.12):
        rows = (draw.rng.sample(range(shape[-1]), draw.rng.randint(1, shape[-1])) for _ in range(width))
        text += f" connect=[{' | '.join(' '.join(map(str, sorted(row))) for row in rows)}]"
    epilogue = _epilogue(draw)
    if "nobias" not in epilogue and draw.chance(0.12):
        epilogue += " bias=position"
    return text + epilogue + _weights(draw)


def _weights(draw: Draw) -> str:
    return " fixed" * draw.chance(0.08) + " binary" * draw.chance(0.12)


def _deconv(draw: Draw, shape: Shape) -> str:
    groups, width = _groups(draw, shape[-1])
    padding = _padding(draw, shape, ("", " valid", " same"))
    text = f"deconv {width} {_size(draw, shape, (1, 2, 3, 4))}{padding}{_dilation(draw, shape)}"
    text += f" groups={groups}" if groups > 1 else ""
    return text + _epilogue(draw) + draw.of("", "", "", "", " fixed", " weights=bilinear")


def _depthwise(draw: Draw, shape: Shape) -> str:
    head = draw.of("dwconv", f"sepconv {draw.width()}")
    text = f"{head} {_size(draw, shape)}{_padding(draw, shape)}{_dilation(draw, shape)}"
    return text + draw.of("", "", " m=2", " m=3") + _epilogue(draw)


def _fc(draw: Draw, shape: Shape) -> str:
    return f"fc {draw.width()}{_epilogue(draw)}{_weights(draw)}"


def _rbf(draw: Draw, shape: Shape) -> str:
    count, size = draw.rng.randint(1, 4), math.prod(shape)
    if size > MAX_CODE:  # a far nearest code is sure, and its gradient nothing but rounding
        return _channels(draw, shape)
    rows = ("".join(draw.of("+", "-") for _ in range(size)) if size > 1 else "1" for _ in range(count))
    return f"rbf {count} codes=[{' | '.join(rows)}]"


# -- the others -----------------------------------------------------------------------------------


def _pool(draw: Draw, shape: Shape) -> str:
    kind = draw.of("maxpool", "maxpool", "avgpool", "avgpool", "l2pool", "subsample")
    text = f"{kind} {_size(draw, shape)}{_padding(draw, shape)}{draw.of('', '', ' ceil')}"
    if kind == "avgpool":
        text += draw.of("", " countpad")
    return text + (f" {draw.activation()}" if kind == "subsample" and draw.chance(0.5) else "")


def _norm(draw: Draw, shape: Shape) -> str:
    eps = "" if draw.gentle else draw.of("", " eps=1e-3", " eps=0.1")
    text = f"bn{eps}{draw.of('', ' momentum=0.3', ' momentum=1', ' momentum=0')}{draw.of('', '', ' nogamma')}"
    return text + (f" {draw.activation()}" if draw.chance(0.3) else "")


def _channels(draw: Draw, shape: Shape) -> str:
    divisors = [count for count in range(1, shape[-1] + 1) if shape[-1] % count == 0]
    lrn = f"lrn n={draw.whole(1, 2, 3, 5, 9)} alpha={draw.of('1e-4', '0.1', '0.7')} beta={draw.of('0.5', '0.75')}"
    regroup = f"{draw.of('maxout', 'shuffle')} {draw.whole(*divisors)}"
    return draw.of(lrn, lrn + " k=1", regroup, regroup, "scale", f"scale {draw.of('0.2', '-1.5')}")


def _dropout(draw: Draw, shape: Shape) -> str:
    return draw.of("dropout", "dropout 0", "dropout 0.1", "dropout 0.5", "dropout 0.9")


def _bare(draw: Draw, shape: Shape) -> str:
    return draw.activation()


def _contrast(draw: Draw, shape: Shape) -> str:
    return f"lcn {_size(draw, shape, (1, 2, 3, 5), strides=())}{draw.of('', ' eps=0.5', ' eps=0.01')}"


def _move(draw: Draw, shape: Shape) -> str:
    border = draw.axes(shape, (0, 1, 2))
    if draw.chance(0.3):
        border = f"({','.join(str(draw.whole(0, 1, 3)) for _ in range(2 * len(shape) - 2))})"
    words = [f"zeropad {border}", f"upsample {draw.axes(shape, (1, 2, 3))}{draw.of('', ' nearest', ' bilinear')}"]
    likes = [name for name, other in draw.shapes.items() if len(other) == len(shape)]
    if likes:
        words.append(f"crop like {draw.rng.choice(likes)}{draw.of('', '', ' offset=0', ' offset=1')}")
    if len(shape) == 3:
        sizes = [draw.rng.randint(1, extent) for extent in shape[:2]]
        at = [draw.rng.randint(0, extent - size) for extent, size in zip(shape, sizes, strict=False)]
        words.append(f"crop {sizes[0]}x{sizes[1]}" + (f" offset=({at[0]},{at[1]})" if draw.chance(0.5) else ""))
    return draw.rng.choice(words)


def _strided_copy(draw: Draw, shape: Shape) -> str:
    return f"shortcut A s={draw.axes(shape, (1, 2, 3))} width={shape[-1] + draw.whole(0, 1, 3)}"


def _to_vector(draw: Draw, shape: Shape) -> str:
    return draw.of("globalavgpool", "flatten")


SPATIAL = {
    conv: 7,
    _deconv: 2,
    _depthwise: 2,
    _pool: 5,
    _norm: 2,
    _channels: 3,
    _dropout: 1,
    _bare: 2,
    _contrast: 1,
    _move: 2,
    _to_vector: 1,
    _fc: 1,
    _rbf: 0.2,
}
IMAGE = {**SPATIAL, _strided_copy: 0.4}
SEQUENCE = SPATIAL
VECTOR = {_fc: 5, _norm: 1, _channels: 2, _dropout: 1, _bare: 2, _rbf: 0.5}
