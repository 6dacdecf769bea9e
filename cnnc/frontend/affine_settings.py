"""What conv, deconv and fc say about their weights: initial values, fixed, binary, who is connected to whom."""

from __future__ import annotations

import math

from cnnc.frontend import ast
from cnnc.frontend.diagnostics import Diagnostics
from cnnc.frontend.expressions import integer, literal
from cnnc.frontend.layer_parts import Weights
from cnnc.frontend.settings import BadSettings, Chosen
from cnnc.source import Span

_SIGNS = {"+": 1.0, "-": -1.0}


def weights(chosen: Chosen, keyword: str, diagnostics: Diagnostics) -> Weights:
    """``weights=``, ``fixed`` and ``binary``.

    Raises:
        BadSettings: after noting what is wrong.
    """
    fixed, binary = "fixed" in chosen, "binary" in chosen
    option = chosen.get("weights")
    if option is None:
        return Weights(fixed=fixed, binary=binary)
    if isinstance(option.value, ast.Name) and option.value.text == "bilinear" and keyword == "deconv":
        return Weights(bilinear=True, fixed=fixed, binary=binary)
    if not isinstance(option.value, ast.Literal):
        also = " or `weights=bilinear`" if keyword == "deconv" else ""
        diagnostics.add(option.span, "`weights` are numbers in brackets", f"for example `weights=[1 0 -1]/2`{also}")
        raise BadSettings
    return Weights(numbers(option.value, "weights", diagnostics), fixed=fixed, binary=binary)


def numbers(found: ast.Literal, what: str, diagnostics: Diagnostics) -> tuple[float, ...]:
    """The numbers of all rows, one after another, divided; a word of signs is a run of 1 and -1.

    Raises:
        BadSettings: after noting what is wrong.
    """
    divisor = 1 if found.divisor is None else integer(found.divisor, diagnostics, 1, "a divisor")
    if divisor is None:
        raise BadSettings
    values: list[float] = []
    for row in found.rows:
        for word in row:
            values.extend([_SIGNS[sign] for sign in word] if set(word) <= set(_SIGNS) else [float(word)])
    if not values:
        diagnostics.add(found.span, f"`{what}` without numbers")
        raise BadSettings
    if not all(map(math.isfinite, values)):
        diagnostics.add(found.span, f"`{what}` with a number that is too large")
        raise BadSettings
    return tuple(value / divisor for value in values)


def connections(option: ast.Option | None, width: int | None, diagnostics: Diagnostics) -> tuple[tuple[int, ...], ...]:
    """``connect=[0 1 2 | 1 2 3]``: the input maps of each filter, counted from 0.

    Raises:
        BadSettings: after noting what is wrong.
    """
    if option is None:
        return ()
    if not isinstance(option.value, ast.Literal) or option.value.divisor is not None:
        hint = "one row of input maps for each filter: `connect=[0 1 2 | 1 2 3]`"
        diagnostics.add(option.span, "`connect` is a table in brackets", hint)
        raise BadSettings
    rows = tuple(tuple(_map(word, option.span, diagnostics) for word in row) for row in option.value.rows)
    for row_number, row in enumerate(rows, 1):
        if not row or len(set(row)) != len(row):
            what = "an input map twice" if row else "no input maps"
            diagnostics.add(option.span, f"row {row_number} of `connect` has {what}")
            raise BadSettings
    if width is not None and len(rows) != width:
        count = f"{len(rows)} row{'s' * (len(rows) != 1)}"
        hint = "one row for each filter, with `|` between them"
        diagnostics.add(option.span, f"`connect` has {count} for {width} filter{'s' * (width != 1)}", hint)
        raise BadSettings
    return rows


def _map(word: str, span: Span, diagnostics: Diagnostics) -> int:
    found = literal(word) if word.isdigit() else None
    if found is None:
        diagnostics.add(span, f"`{word}` in `connect` is not an input map's number", "input maps count from 0")
        raise BadSettings
    return found
