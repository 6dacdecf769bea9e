"""Text to a checked graph: grammar, syntax tree, diagnostics, lowering, formatting."""

from __future__ import annotations

from cnnc.frontend import ast
from cnnc.frontend.diagnostics import Diagnostics, TooManyErrors
from cnnc.frontend.lower import Lowered, lower_collecting
from cnnc.frontend.parser import parse_collecting
from cnnc.frontend.reading import read_source
from cnnc.ir.model import Model
from cnnc.source import Source

__all__ = ["ast", "load", "lower", "parse", "read_source"]


def parse(source: Source) -> ast.Program:
    """The syntax tree of a text.

    Raises:
        ProgramError: every syntax error in it.
    """
    diagnostics = Diagnostics()
    try:
        program = parse_collecting(source, diagnostics)
    except TooManyErrors:
        program = ast.Program((), source)
    diagnostics.raise_any()
    return program


def lower(program: ast.Program) -> Model:
    """The checked graph of a syntax tree.

    Raises:
        ProgramError: every independent error in it.
    """
    return _lowered(program, Diagnostics()).model


def load(source: Source) -> Model:
    """Parse and lower; syntax errors do not hide what is wrong elsewhere.

    Raises:
        ProgramError: every independent error in the text.
    """
    diagnostics = Diagnostics()
    try:
        program = parse_collecting(source, diagnostics)
    except TooManyErrors:
        diagnostics.raise_any()
        raise AssertionError("unreachable") from None
    return _lowered(program, diagnostics).model


def _lowered(program: ast.Program, diagnostics: Diagnostics) -> Lowered:
    try:
        return lower_collecting(program, diagnostics)
    except TooManyErrors:
        diagnostics.raise_any()
        raise AssertionError("unreachable") from None
