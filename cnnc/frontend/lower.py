"""Syntax tree to Model: what a program must say once, then its layers one after another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

from cnnc.errors import ProgramError
from cnnc.frontend import ast
from cnnc.frontend.build_graph import MAX_ELEMENTS, Built, GraphBuilder, graph_shape
from cnnc.frontend.counting import may_be_large
from cnnc.frontend.diagnostics import Diagnostics, TooManyErrors
from cnnc.frontend.expressions import dims
from cnnc.frontend.names import Names
from cnnc.frontend.resolve import resolve
from cnnc.frontend.train_block import Training, training
from cnnc.ir.model import Model
from cnnc.ir.types import format_shape
from cnnc.source import Span

DEFAULT_NAME = "network"

Kind = TypeVar("Kind", ast.ModelName, ast.InputShape, ast.Order, ast.Widths, ast.Classes, ast.Train)


@dataclass(frozen=True)
class Lowered:
    """A model and how it was made: its layers in order, for ``expand``."""

    model: Model
    built: tuple[Built, ...]
    training: Training


def lower_collecting(program: ast.Program, diagnostics: Diagnostics) -> Lowered:
    """Check and lower a program.

    Raises:
        ProgramError: with every independent error, those already in ``diagnostics`` too.
    """
    name = _only(program, ast.ModelName, "model", diagnostics)
    shape = _input_shape(program, diagnostics)
    train = training(_only(program, ast.Train, "train", diagnostics), diagnostics)
    _check_slide(program, diagnostics)
    if may_be_large(program):
        _refuse_large(program, diagnostics)
    names = Names()
    sequence = shape is not None and len(shape) == 2
    shape = graph_shape(shape, sequence) if shape is not None else None
    title = name.name if name else DEFAULT_NAME
    builder = GraphBuilder(title, shape, train.decay_all, names, diagnostics, sequence)
    resolve(program, names, diagnostics, builder.add, sequence)
    if not builder.built and not diagnostics.found:
        diagnostics.add(_end(program), "the program has no layers", "for example `conv 64 3x3 same`")
    diagnostics.raise_any()
    assert shape is not None
    model = Model(title, builder.finish(), shape, train.config, program.source, sequence, tuple(builder.heads))
    return Lowered(model, tuple(builder.built), train)


def _refuse_large(program: ast.Program, diagnostics: Diagnostics) -> None:
    """Count before building: refusing a large program must not take as long as building it."""
    counted = Diagnostics()
    try:
        resolve(program, Names(), counted, lambda _: None)
    except (ProgramError, TooManyErrors):
        for error in counted.found:
            diagnostics.add(error.span, error.message, error.hint)
        diagnostics.raise_any()


def _only(program: ast.Program, kind: type[Kind], what: str, diagnostics: Diagnostics) -> Kind | None:
    """The one item of its kind, if any; a second one is an error."""
    found = [item for item in program.items if isinstance(item, kind)]
    for item in found[1:]:
        diagnostics.add(item.span, f"a second `{what}`", f"the first is in line {found[0].span.line}")
    return found[0] if found else None


def _has_broken(program: ast.Program, word: str) -> bool:
    """Whether a line that starts with this word was lost to a syntax error."""
    return any(isinstance(item, ast.Broken) and item.word == word for item in program.items)


def _input_shape(program: ast.Program, diagnostics: Diagnostics) -> tuple[int, ...] | None:
    item = _only(program, ast.InputShape, "input", diagnostics)
    if item is None:
        if not _has_broken(program, "input"):
            diagnostics.add(_start(program), "a program needs its input's shape", "for example `input 224x224x3`")
        return None
    shape = dims(item.dims, diagnostics, "an input")
    if shape is None:
        return None
    if len(shape) > 3:
        hint = "write HxWxC, LxC for a sequence, or one number for a vector"
        diagnostics.add(item.dims.span, f"an input with {len(shape)} extents", hint)
        return None
    if math.prod(shape) > MAX_ELEMENTS:
        hint = f"the limit is {MAX_ELEMENTS:,} values"
        diagnostics.add(item.dims.span, f"input {format_shape(shape)} is too large", hint)
        return None
    return shape


def _check_slide(program: ast.Program, diagnostics: Diagnostics) -> None:
    """``Order``, ``Nf`` and ``classes`` belong together."""
    order = _only(program, ast.Order, "Order", diagnostics)
    widths = _only(program, ast.Widths, "Nf", diagnostics)
    classes = _only(program, ast.Classes, "classes", diagnostics)
    if order is None:
        for item, what in ((widths, "Nf"), (classes, "classes")):
            if item is not None and not _has_broken(program, "Order"):
                diagnostics.add(item.span, f"`{what}:` without `Order:`")
        return
    letters = {letter for word in order.words for letter in word.text}
    if widths is None and letters & {"C", "F"} and not _has_broken(program, "Nf"):
        diagnostics.add(order.span, "`Order:` without `Nf:`", "one width for each word with C or F: `Nf: 2^6 2^7`")
    if classes is None and "S" in letters and not _has_broken(program, "classes"):
        word = next(word for word in order.words if "S" in word.text)
        diagnostics.add(word.span, "`S` needs the number of classes", "add a line such as `classes: 1000`")


def _start(program: ast.Program) -> Span:
    return Span(program.source, 0, 0)


def _end(program: ast.Program) -> Span:
    return program.items[-1].span if program.items else _start(program)
