"""Addresses of rows: how a tile's rows (pixel, image) or (image) become offsets in any layout.

Rows are flattened with the image fastest: ``row = (p * Q + q) * N + n``. Offsets are 64-bit; the
strides of pixel and image are runtime arguments, so one text serves HWNC and NHWC.
"""

from __future__ import annotations

from dataclasses import dataclass

from cnnc.codegen.kernel import Kernel
from cnnc.codegen.launch import Programs
from cnnc.ir.plan import Buffer
from cnnc.ir.size import Size

PIXELWISE = (
    "image_tiles = (N + BM - 1) // BM",
    "first_image = tile % image_tiles * BM",
    "n = first_image + tl.arange(0, BM)",
    "live = n < N",
)


@dataclass(frozen=True)
class Rows:
    """The rows of a kernel's tiles: pixels times images, or images alone where ``image`` is None.

    ``h``, ``w`` name a pixel's coordinates in the text, ``height``, ``width`` their extents. With ``pixelwise``
    a tile's rows are images at one pixel, whose coordinates are scalars.
    """

    image: tuple[int, int] | None
    h: str = "p"
    w: str = "q"
    height: str = "P"
    width: str = "Q"
    pixelwise: bool = False

    @property
    def count(self) -> Size:
        return Size(a=self.image[0] * self.image[1] if self.image else 1)

    @property
    def total(self) -> str:
        """The number of rows, as text."""
        return f"{self.height} * {self.width} * N" if self.image else "N"

    def programs(self, block: int, times: int) -> tuple[Programs, ...]:
        if self.pixelwise:
            return (Programs(Size(a=1), block, self.count.a * times),)
        return (Programs(self.count, block, times),)

    def declare(self, kernel: Kernel) -> None:
        """Add the extents as parameters."""
        kernel.batch()
        if self.image:
            kernel.counts(**{self.height: self.image[0], self.width: self.image[1]})

    def decode(self) -> list[str]:
        """Lines that take ``rows`` apart into coordinates, or the number of the ``tile`` where they are pixelwise."""
        if self.pixelwise:
            return [
                *PIXELWISE,
                f"{self.h} = tile // image_tiles // {self.width}",
                f"{self.w} = tile // image_tiles % {self.width}",
            ]
        if not self.image:
            return [f"live = rows < {self.total}", "n = rows"]
        return [
            f"live = rows < {self.total}",
            "n = rows % N",
            f"{self.h} = rows // N // {self.width}",
            f"{self.w} = rows // N % {self.width}",
        ]

    def offsets(self, name: str) -> str:
        """Expression of the rows' offsets in an operand whose strides were declared under ``name``."""
        return image_offsets(name, self.h, self.w) if self.image else f"n.to(tl.int64) * {name}_n"


def rows_of(buffer: Buffer) -> Rows:
    """The rows of a batched operand: an image's pixels, a vector's images."""
    return Rows((buffer.shape[0], buffer.shape[1]) if len(buffer.shape) == 3 else None)


def image_offsets(name: str, h: str, w: str) -> str:
    """Offsets of pixel (h, w) of image n."""
    return f"{h}.to(tl.int64) * {name}_h + {w}.to(tl.int64) * {name}_w + n.to(tl.int64) * {name}_n"


def declare_strides(kernel: Kernel, name: str, buffer: Buffer) -> None:
    """Add a batched operand's strides (its channels lie side by side) as 64-bit parameters.

    Raises:
        ValueError: the channels do not lie side by side (a bug in the planner).
    """
    strides = dict(zip(buffer.logical_axes, buffer.strides, strict=True))
    if "C" in strides and strides["C"] != Size(c=1):
        raise ValueError(f"buffer {buffer.name} has axes {buffer.axes}: kernels need the channels innermost")
    for letter in "HWN":
        if letter in strides:
            kernel.integer(f"{name}_{letter.lower()}", strides[letter], 64)


def operand(kernel: Kernel, name: str, buffer: Buffer) -> str:
    """Declare a batched operand: its pointer and strides; gives its name."""
    unique = kernel.pointer(name, buffer)
    declare_strides(kernel, unique, buffer)
    return unique
