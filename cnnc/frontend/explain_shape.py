"""Shape errors in the words of the program: both shapes, where the input comes from, and what would help."""

from __future__ import annotations

from cnnc.errors import ShapeError
from cnnc.ir.ops.base import Op
from cnnc.ir.types import format_shape
from cnnc.ir.window import Pad, Window


def explain(
    error: ShapeError, op: Op, shape: tuple[int, ...], origin: str, sequence: bool = False
) -> tuple[str, str | None]:
    """Message and hint for a shape rule that does not hold.

    ``shape`` is the layer's input and ``origin`` a clause that says where that comes from; in a ``sequence``
    the program writes ``LxC`` for the graph's ``Lx1xC``.
    """
    window = getattr(op, "window", None)
    if isinstance(window, Window) and "does not fit" in error.message and _misfits(window, shape):
        return _misfit(window, shape, origin, sequence)
    message = error.message.replace("an image HxWxC", "a sequence LxC") if sequence else error.message
    if error.attribute == "pad" or "is larger than" in message:
        return message, error.hint  # true of any input
    return message, f"{origin}; {error.hint}" if error.hint else origin


def shown_shape(shape: tuple[int, ...], sequence: bool) -> tuple[int, ...]:
    """A shape of the graph as the program writes it: ``64x32`` for the ``64x1x32`` of a sequence."""
    return (shape[0], shape[2]) if sequence and len(shape) == 3 else shape


def _misfit(window: Window, shape: tuple[int, ...], origin: str, sequence: bool) -> tuple[str, str]:
    axes = (0,) if sequence else (0, 1)
    pads = window.pad[: 2 * len(axes)]
    kernel = "x".join(str(window.kernel[axis]) for axis in axes)
    given = format_shape(shown_shape(shape, sequence))
    message = f"kernel {kernel} does not fit its input {given} (pad {_pad_text(pads)})"
    if window.dilation != (1, 1):
        message += f"; dilated it spans {'x'.join(str(window.extent[axis]) for axis in axes)}"
    return message, f"{origin}; pad={minimal_padding(window, shape)} or `same` would make it fit"


def _misfits(window: Window, shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and any(shape[axis] + sum(window.pad_of(axis)) < window.extent[axis] for axis in (0, 1))


def minimal_padding(window: Window, shape: tuple[int, ...]) -> int:
    """The smallest padding on all sides with which the kernel fits."""
    return max(0, *(-((shape[axis] - window.extent[axis]) // 2) for axis in (0, 1)))


def _pad_text(pad: Pad | tuple[int, ...]) -> str:
    return str(pad[0]) if len(set(pad)) == 1 else f"({','.join(map(str, pad))})"
