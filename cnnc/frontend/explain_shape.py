"""Shape errors in the words of the program: both shapes, where the input comes from, and what would help."""

from __future__ import annotations

from cnnc.errors import ShapeError
from cnnc.ir.ops.base import Op
from cnnc.ir.types import format_shape
from cnnc.ir.window import Pad, Window


def explain(error: ShapeError, op: Op, shape: tuple[int, ...], origin: str) -> tuple[str, str | None]:
    """Message and hint for a shape rule that does not hold.

    ``shape`` is the layer's input and ``origin`` a clause that says where that comes from.
    """
    window = getattr(op, "window", None)
    if isinstance(window, Window) and "does not fit" in error.message and _misfits(window, shape):
        pad = minimal_padding(window, shape)
        message = f"{error.message} its input {format_shape(shape)} (pad {_pad_text(window.pad)})"
        if window.dilation != (1, 1):
            message += f"; dilated it spans {window.extent[0]}x{window.extent[1]}"
        return message, f"{origin}; pad={pad} or `same` would make it fit"
    if error.attribute == "pad" or "is larger than" in error.message:
        return error.message, error.hint  # true of any input
    return error.message, f"{origin}; {error.hint}" if error.hint else origin


def _misfits(window: Window, shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and any(shape[axis] + sum(window.pad_of(axis)) < window.extent[axis] for axis in (0, 1))


def minimal_padding(window: Window, shape: tuple[int, ...]) -> int:
    """The smallest padding on all sides with which the kernel fits."""
    return max(0, *(-((shape[axis] - window.extent[axis]) // 2) for axis in (0, 1)))


def _pad_text(pad: Pad) -> str:
    return str(pad[0]) if len(set(pad)) == 1 else f"({','.join(map(str, pad))})"
