"""The leaves of the syntax tree: expressions, numbers, options. Frozen, with spans, unchecked like the rest."""

from __future__ import annotations

from dataclasses import dataclass, field

from cnnc.source import Span


@dataclass(frozen=True)
class Integer:
    """A number as written; ``text`` has only digits, however many."""

    text: str
    span: Span = field(compare=False, repr=False)
    depth: int = 0


@dataclass(frozen=True)
class Name:
    """A word: in an expression the name of an integer, elsewhere a label or a keyword."""

    text: str
    span: Span = field(compare=False, repr=False)
    depth: int = 0


@dataclass(frozen=True)
class Binary:
    """``left operator right`` with operator one of ``+ - * / ^``; ``depth`` bounds recursion over the tree."""

    operator: str
    left: Expression
    right: Expression
    span: Span = field(compare=False, repr=False)
    depth: int = 0


@dataclass(frozen=True)
class Negative:
    """``- operand``."""

    operand: Expression
    span: Span = field(compare=False, repr=False)
    depth: int = 0


Expression = Integer | Name | Binary | Negative


@dataclass(frozen=True)
class Tuple:
    """``(a, b)`` or longer."""

    items: tuple[Expression, ...]
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Real:
    """A real number as written, with its sign."""

    text: str
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Dims:
    """A literal shape or size: ``3x3``, ``224x224x3``, or one number."""

    extents: tuple[str, ...]
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Literal:
    """``[1 -1 | 0.5 +-+-]/9``: rows of numbers as written (a word of signs is a run of ones), and what divides them."""

    rows: tuple[tuple[str, ...], ...]
    divisor: Expression | None
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Activated:
    """An activation as a value: ``relu``, ``elu(0.5)``; ``argument`` is what the parentheses hold."""

    name: str
    argument: Real | Name | None
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Reference:
    """A layer's name where it is read: ``pool4``, ``stage1.2.conv1``, ``l.*.skip``, ``input``.

    ``target`` is the full name of the one layer that it means, once that is known.
    """

    text: str
    span: Span = field(compare=False, repr=False)
    target: str = ""


OptionValue = Expression | Tuple | Real | Dims | Literal | Activated | None


@dataclass(frozen=True)
class Option:
    """A flag (``same``), a setting (``groups=2``), or the parts of ``3x3/2``: options ``size`` and ``/``.

    An activation has its argument as value: ``elu(0.5)`` is ``elu`` with a Real.
    """

    name: str
    value: OptionValue
    span: Span = field(compare=False, repr=False)
    known: bool = True  # False for a word that the grammar does not expect at this place


Value = Expression | Real | Activated
