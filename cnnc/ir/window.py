"""The arithmetic of a sliding window; every rule about output sizes lives here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from cnnc.errors import ShapeError

Pair = tuple[int, int]
Pad = tuple[int, int, int, int]  # top, bottom, left, right


@dataclass(frozen=True)
class Window:
    """Kernel, stride, dilation (height, width) and padding (top, bottom, left, right) of a conv or pool."""

    kernel: Pair
    stride: Pair = (1, 1)
    pad: Pad = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    ceil: bool = False

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @cached_property
    def extent(self) -> Pair:
        """Pixels that the dilated kernel spans."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))  # type: ignore[return-value]

    def pad_of(self, axis: int) -> Pair:
        """Padding before and after along axis 0 (height) or 1 (width)."""
        return self.pad[2 * axis], self.pad[2 * axis + 1]

    def output(self, image: Pair) -> Pair:
        """Output height and width for an input image.

        Floor of ``(n + pads - extent) / stride`` plus one; with ``ceil`` rounded up, but the last
        window must start inside the image or its leading padding (PyTorch's rule).

        Raises:
            ShapeError: the kernel does not fit the padded image.
        """
        return self._along(0, image), self._along(1, image)

    def touched(self, image: Pair) -> Pair:
        """Rows and columns of the image that some window reads: not all where the stride leaves gaps."""
        return self._touched(0, image), self._touched(1, image)

    def always_sees(self, image: Pair) -> bool:
        """Whether every window has some pixel of the image under it, and not only padding."""
        return all(self._always_sees(axis, image) for axis in range(2))

    def _always_sees(self, axis: int, image: Pair) -> bool:
        starts = (count * self.stride[axis] - self.pad_of(axis)[0] for count in range(self._along(axis, image)))
        taps = range(0, self.extent[axis], self.dilation[axis])
        return all(any(0 <= start + tap < image[axis] for tap in taps) for start in starts)

    def _touched(self, axis: int, image: Pair) -> int:
        starts = (count * self.stride[axis] - self.pad_of(axis)[0] for count in range(self._along(axis, image)))
        taps = range(0, self.extent[axis], self.dilation[axis])
        return len({start + tap for start in starts for tap in taps if 0 <= start + tap < image[axis]})

    def _along(self, axis: int, image: Pair) -> int:
        before, after = self.pad_of(axis)
        stride = self.stride[axis]
        room = image[axis] + before + after - self.extent[axis]
        if room < 0:
            raise ShapeError(f"kernel {self._kernel_text()} does not fit", "kernel")
        size = room // stride + 1
        if self.ceil:
            size = -(-room // stride) + 1
            if (size - 1) * stride >= image[axis] + before:
                size -= 1
        return size

    def _kernel_text(self) -> str:
        return f"{self.kernel[0]}x{self.kernel[1]}"

    def __str__(self) -> str:
        """``3x3/2 pad=1`` with only what differs from the defaults."""
        text = self._kernel_text()
        if self.stride != (1, 1):
            text += f"/{_pair(self.stride)}"
        if any(self.pad):
            text += f" pad={_pad_text(self.pad)}"
        if self.dilation != (1, 1):
            text += f" dilation={_pair(self.dilation)}"
        return text + (" ceil" if self.ceil else "")


def _pair(pair: Pair) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"({pair[0]},{pair[1]})"


def _pad_text(pad: Pad) -> str:
    top, bottom, left, right = pad
    if top == bottom and left == right:
        return _pair((top, left))
    return f"({top},{bottom},{left},{right})"


def same_padding(kernel: Pair, dilation: Pair) -> Pad:
    """``same``: (k-1)d/2 on both sides at any stride; the extra pixel of an even kernel goes after."""
    total = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    return total[0] // 2, total[0] - total[0] // 2, total[1] // 2, total[1] - total[1] // 2


def tensorflow_same_padding(image: Pair, kernel: Pair, stride: Pair, dilation: Pair) -> Pad:
    """``same=tf``: out = ceil(n/s), total = max((out-1)s + extent - n, 0), the odd pixel after."""
    pads: list[int] = []
    for n, k, s, d in zip(image, kernel, stride, dilation, strict=True):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        pads += [total // 2, total - total // 2]
    return pads[0], pads[1], pads[2], pads[3]


def causal_padding(kernel: Pair, dilation: Pair) -> Pad:
    """``causal``: (k-1)d before and nothing after along the height, which is time."""
    return (kernel[0] - 1) * dilation[0], 0, 0, 0


def transposed_image(rows: Pair, window: Window) -> Pair:
    """Height and width that a transposed conv gives: ``(n-1)s + extent - pads``; not positive where pads eat all."""
    extents = zip(rows, window.stride, window.extent, strict=True)
    found = [(n - 1) * s + extent - sum(window.pad_of(axis)) for axis, (n, s, extent) in enumerate(extents)]
    return found[0], found[1]


def transposed_same_padding(kernel: Pair, stride: Pair, dilation: Pair) -> Pad:
    """``same`` of a transposed conv, which makes its output s times its input: ``extent - s``, the odd pixel after.

    Negative where the stride is larger than the dilated kernel: then no padding does.
    """
    total = [(k - 1) * d + 1 - s for k, s, d in zip(kernel, stride, dilation, strict=True)]
    return total[0] // 2, total[0] - total[0] // 2, total[1] // 2, total[1] - total[1] // 2
