"""The syntax tree: frozen, every node with the span it came from. Nothing here is checked or resolved."""

from __future__ import annotations

from dataclasses import dataclass, field

from cnnc.frontend.ast_values import (
    Activated,
    Binary,
    Dims,
    Expression,
    Integer,
    Literal,
    Name,
    Negative,
    Option,
    OptionValue,
    Real,
    Reference,
    Tuple,
    Value,
)
from cnnc.source import Source, Span

__all__ = [
    "Activated",
    "Argument",
    "Arm",
    "Binary",
    "Block",
    "Broken",
    "Call",
    "Classes",
    "Default",
    "Dims",
    "Expression",
    "From",
    "Head",
    "Inner",
    "InputShape",
    "Integer",
    "Item",
    "Layer",
    "LayerArgument",
    "Literal",
    "Merge",
    "ModelName",
    "Modifier",
    "Name",
    "Negative",
    "Operand",
    "Option",
    "OptionValue",
    "Order",
    "Parameter",
    "Program",
    "Real",
    "Reference",
    "Repeat",
    "Setting",
    "Statement",
    "Times",
    "Train",
    "Tuple",
    "Use",
    "Value",
    "Widths",
]


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
class Use:
    """``use "blocks.cnn"``; ``path`` is what stands between the quotes."""

    path: str
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Parameter:
    """A block's parameter and its default."""

    name: Name
    default: Value | None
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Block:
    """``block name(parameters) { body }``."""

    name: Name
    parameters: tuple[Parameter, ...]
    body: tuple[Inner, ...]
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class From:
    """``from pool4``: what follows reads that layer."""

    source: Reference
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Head:
    """``head aux1 loss=0.3 { body }``."""

    name: Name
    weight: Real | Name | None
    body: tuple[Inner, ...]
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Argument:
    """One argument of a call, named or not."""

    name: Name | None
    value: Value
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Modifier:
    """``first(s=2)``: other arguments for the first or last call."""

    which: Name
    arguments: tuple[Argument, ...]
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Times:
    """``x10 last(k=1)``."""

    count: Integer
    modifiers: tuple[Modifier, ...]
    span: Span = field(compare=False, repr=False)


LayerArgument = Expression | Real | Tuple | Dims | Reference | None


@dataclass(frozen=True)
class Layer:
    """One explicit layer.

    ``argument`` is what stands before the options: the width of conv, fc and rbf, the rate of dropout, the
    factor of upsample and scale, the border of zeropad, the size of crop or the layer that it is like.
    """

    label: Reference | None
    keyword: Name
    argument: LayerArgument
    options: tuple[Option, ...]
    times: Times | None
    assertion: Dims | None
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Call:
    """``stage1: bottleneck(64, s=2) x3``."""

    label: Reference | None
    name: Name
    arguments: tuple[Argument, ...]
    times: Times | None
    assertion: Dims | None
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Arm:
    """``| 0.2 * statements``."""

    factor: Real | Name | None
    body: tuple[Inner, ...]
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Operand:
    """``0.2 * pool4`` in ``add(fc7, 0.2 * pool4)``."""

    factor: Real | Name | None
    source: Reference
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Merge:
    """``add``, ``concat`` or ``mul`` over arms or over layers by name; one of the two is empty."""

    label: Reference | None
    keyword: Name
    arms: tuple[Arm, ...]
    operands: tuple[Operand, ...]
    options: tuple[Option, ...]
    times: Times | None
    assertion: Dims | None
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Repeat:
    """``repeat n { body }`` or ``repeat i=0..3 { body }``, both ends included; then ``count`` is None."""

    label: Reference | None
    count: Expression | None
    counter: Name | None
    low: Expression | None
    high: Expression | None
    body: tuple[Inner, ...]
    times: Times | None
    assertion: Dims | None
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Setting:
    """One line of the train block: ``loss cross_entropy``, ``optimizer sgd lr=0.01``, ``batch 32``, ``epochs 10``."""

    keyword: Name
    value: Expression
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


Statement = Layer | Call | Merge | Repeat
Inner = Default | Statement | From | Head | Broken
Item = ModelName | InputShape | Order | Widths | Classes | Train | Use | Block | Inner


@dataclass(frozen=True)
class Program:
    """A whole text: its items in order."""

    items: tuple[Item, ...]
    source: Source = field(compare=False, repr=False)
