"""How buffers look to tensor descriptors, which load blocks of them by the coordinates of a corner."""

from __future__ import annotations

from dataclasses import dataclass

from cnnc.ir.plan import Buffer
from cnnc.ir.size import Size

ONE = Size(c=1)


@dataclass(frozen=True)
class View:
    """Extents and strides in elements, outermost axis first."""

    shape: tuple[Size, ...]
    strides: tuple[Size, ...]


def pixels_of(buffer: Buffer) -> View:
    """Images as ``[H*W, N, C]``: the images' values at one pixel lie together."""
    height, width, channels = buffer.shape
    shape = Size(c=height * width), Size(a=1), Size(c=channels)
    return View(shape, (Size(a=buffer.channels or channels), Size(c=buffer.channels or channels), ONE))


def rows_of(buffer: Buffer) -> View:
    """Images as ``[H*W*N, C]``, vectors as ``[N, C]``."""
    *image, channels = buffer.shape
    pixels = image[0] * image[1] if image else 1
    return View((Size(a=pixels), Size(c=channels)), (Size(c=buffer.channels or channels), ONE))


def taps_of(buffer: Buffer) -> View:
    """A convolution's weight as ``[K, R*S, C]``: beyond a tap's channels there are zeros, not the next tap."""
    filters, height, width, channels = buffer.shape
    shape = Size(c=filters), Size(c=height * width), Size(c=channels)
    return View(shape, (Size(c=height * width * channels), Size(c=channels), ONE))


def matrix_of(buffer: Buffer) -> View:
    """A weight ``[K, C]``."""
    filters, channels = buffer.shape
    return View((Size(c=filters), Size(c=channels)), (Size(c=channels), ONE))
