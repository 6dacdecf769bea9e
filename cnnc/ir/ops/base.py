"""What every op is: a frozen dataclass of attributes with one shape rule."""

from __future__ import annotations

import enum
from dataclasses import dataclass, fields

from cnnc.errors import ShapeError
from cnnc.ir.types import TensorType, format_shape


@dataclass(frozen=True)
class Op:
    """Base of all ops. Subclasses add attributes and ``infer``; all else about an op is a table elsewhere."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        """Output types from operand types.

        Raises:
            ShapeError: the operands do not fit the op or each other.
        """
        raise NotImplementedError

    @property
    def name(self) -> str:
        """The op's name in printed graphs: ``ConvDgrad`` is ``conv_dgrad``."""
        text = type(self).__name__
        return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(text))

    def attributes(self) -> str:
        """Attributes as printed, defaults included, in order of declaration."""
        return " ".join(f"{field.name}={_attribute(getattr(self, field.name))}" for field in fields(self))


def _attribute(value: object) -> str:
    if isinstance(value, tuple):
        return "(" + ",".join(_attribute(item) for item in value) + ")"
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, float):
        return f"{value:g}"
    return f"[{value}]" if " " in str(value) else str(value)


def expect(condition: bool, message: str, attribute: str = "", hint: str | None = None) -> None:
    """Raise a ShapeError unless the condition holds."""
    if not condition:
        raise ShapeError(message, attribute, hint)


def image_of(x: TensorType, what: str) -> tuple[int, int, int]:
    """Height, width and channels of an image operand."""
    if len(x.shape) != 3 or not x.batched:
        raise ShapeError(f"{what} needs an image HxWxC, not {format_shape(x.shape)}", "input")
    return x.shape[0], x.shape[1], x.shape[2]


def expect_same(a: TensorType, b: TensorType, what: str) -> None:
    """Both operands have one shape."""
    expect(
        a.shape == b.shape and a.batched == b.batched,
        f"{what} needs two equal shapes, not {format_shape(a.shape)} and {format_shape(b.shape)}",
    )


def expect_vector(x: TensorType, count: int, what: str) -> None:
    """A parameter or statistic with one element per channel."""
    expect(
        x.shape == (count,) and not x.batched,
        f"{what} needs {count} elements, one per channel, not {format_shape(x.shape)}",
    )
