"""The syntax tree: frozen, every node with the span it came from. Nothing here is checked or resolved."""

from __future__ import annotations

from dataclasses import dataclass, field

from cnnc.source import Source, Span


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


OptionValue = Expression | Tuple | Real | Dims | None


@dataclass(frozen=True)
class Option:
    """A flag (``same``), a setting (``groups=2``), or the parts of ``3x3/2``: options ``size`` and ``/``."""

    name: str
    value: OptionValue
    span: Span = field(compare=False, repr=False)
    known: bool = True  # False for a word that the grammar does not expect at this place


@dataclass(frozen=True)
class ModelName:
    name: str
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class InputShape:
    dims: Dims
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Default:
    """``CONV: same, relu``: options for every later statement of its kind."""

    kind: Name
    options: tuple[Option, ...]
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Order:
    """``Order: CCP CCP FFS``; the words as written."""

    words: tuple[Name, ...]
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Widths:
    """``Nf: 2^6 (96,48)``."""

    entries: tuple[Expression | Tuple, ...]
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Classes:
    count: Expression
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Layer:
    """One explicit statement. ``argument`` is the width of conv and fc, the rate of dropout."""

    label: Name | None
    keyword: Name
    argument: Expression | Real | None
    options: tuple[Option, ...]
    assertion: Dims | None
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Setting:
    """One line of the train block: ``loss cross_entropy``, ``optimizer sgd lr=0.01``, ``batch 32``, ``epochs 10``."""

    keyword: Name
    value: Name | Expression
    options: tuple[Option, ...]
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Train:
    settings: tuple[Setting | Broken, ...]
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Broken:
    """What stands for a statement with a syntax error; ``word`` is its first word."""

    word: str
    span: Span = field(compare=False, repr=False)


Item = ModelName | InputShape | Default | Order | Widths | Classes | Layer | Train | Broken


@dataclass(frozen=True)
class Program:
    """A whole text: its items in order."""

    items: tuple[Item, ...]
    source: Source = field(compare=False, repr=False)
