"""Text to a checked graph: grammar, syntax tree, diagnostics, lowering, formatting."""

from __future__ import annotations

from cnnc.errors import ProgramError
from cnnc.frontend import ast
from cnnc.frontend.diagnostics import Diagnostics, TooManyErrors
from cnnc.frontend.expand import expand_lowered
from cnnc.frontend.format import format_program
from cnnc.frontend.lower import Lowered, lower_collecting
from cnnc.frontend.parser import parse_collecting
from cnnc.frontend.reading import read_source
from cnnc.ir.model import Model
from cnnc.source import Source

__all__ = ["ast", "expand", "format_source", "load", "lower", "parse", "read_source"]


def parse(source: Source) -> ast.Program:
    """The syntax tree of a text.

    Raises:
        ProgramError: every syntax error in it.
    """
    diagnostics = Diagnostics()
    try:
        program = parse_collecting(source, diagnostics)
    except TooManyErrors:
        raise ProgramError(diagnostics.found) from None
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
    return _load(source).model


def expand(program: Model | ast.Program | Source) -> str:
    """The program in explicit statements, every layer labelled; it lowers to the same graph.

    Raises:
        ProgramError: every independent error in it.
    """
    if isinstance(program, ast.Program):
        return expand_lowered(_lowered(program, Diagnostics()))
    return expand_lowered(_load(program.source if isinstance(program, Model) else program))


def format_source(source: Source) -> str:
    """The text in one way of writing, comments kept; it parses to an equal tree.

    Raises:
        ProgramError: every syntax error in it.
    """
    return format_program(parse(source))


def _load(source: Source) -> Lowered:
    diagnostics = Diagnostics()
    try:
        program = parse_collecting(source, diagnostics)
    except TooManyErrors:
        raise ProgramError(diagnostics.found) from None
    return _lowered(program, diagnostics)


def _lowered(program: ast.Program, diagnostics: Diagnostics) -> Lowered:
    try:
        return lower_collecting(program, diagnostics)
    except TooManyErrors:
        raise ProgramError(diagnostics.found) from None
