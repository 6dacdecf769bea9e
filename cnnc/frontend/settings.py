"""Options of one statement by concern, and single values checked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from cnnc.frontend import ast, vocabulary
from cnnc.frontend.diagnostics import Diagnostics
from cnnc.frontend.expressions import integer, real
from cnnc.frontend.layer_parts import Activate, Norm
from cnnc.frontend.slips import unknown_option
from cnnc.source import Span

# Options by concern: what a kernel, stride, padding, ... was given as.
Chosen = Mapping[str, ast.Option]

# How a concern is called where ops blame an attribute.
_ATTRIBUTE = {"size": "kernel", "padding": "pad"}

# The activations that take a number, and the number they have without one.
NUMBERS = {"leaky_relu": 0.1, "elu": 1.0, "prelu": 0.25, "sign": 0.0}


class BadSettings(Exception):
    """A statement whose errors are already noted."""


def choose(options: Iterable[ast.Option], takes: str, diagnostics: Diagnostics, shown: str = "") -> Chosen | None:
    """Options by concern; None after noting unknown ones, repetitions and contradictions.

    ``takes`` is the keyword whose options may stand here, ``shown`` how messages call it.
    """
    chosen: dict[str, ast.Option] = {}
    sound = True
    for option in options:
        if not option.known or not vocabulary.takes(takes, option.name):
            _unknown(option, takes, shown or takes, diagnostics)
            sound = False
            continue
        concern = vocabulary.CONCERN.get(option.name, option.name)
        earlier = chosen.setdefault(concern, option)
        if earlier is not option:
            _contradiction(earlier, option, diagnostics)
            sound = False
    return chosen if sound else None


def _unknown(option: ast.Option, takes: str, shown: str, diagnostics: Diagnostics) -> None:
    # `3x3/2` is two options without names of their own.
    word = _shown(option) if option.known and option.name in ("/", "size") else option.name
    message = f"`{shown}` has no option `{word}`"
    hint = "padding never wins a maximum" if (takes, word) == ("maxpool", "countpad") else unknown_option(word, takes)
    diagnostics.add(option.span, message, hint)


def _contradiction(earlier: ast.Option, option: ast.Option, diagnostics: Diagnostics) -> None:
    if earlier.name == option.name:
        diagnostics.add(option.span, f"`{_shown(option)}` is given twice")
    else:
        diagnostics.add(option.span, f"`{_shown(option)}` contradicts `{_shown(earlier)}`")


def _shown(option: ast.Option) -> str:
    return f"/{option.span.text}" if option.name == "/" else option.span.text


def operand_spans(chosen: Chosen) -> dict[str, Span]:
    """Span of each attribute that the statement itself gives."""
    return {_ATTRIBUTE.get(concern, concern): option.span for concern, option in chosen.items()}


def sound(*values: object) -> None:
    """Raise BadSettings if a value is None: its error is already noted."""
    if any(value is None for value in values):
        raise BadSettings


def norm(chosen: Chosen, diagnostics: Diagnostics) -> Norm:
    """Batch norm's settings.

    Raises:
        BadSettings: after noting what is wrong.
    """
    eps = number(chosen.get("eps"), Norm.eps, diagnostics, positive=True)
    momentum = number(chosen.get("momentum"), Norm.momentum, diagnostics, most=1.0)
    if eps is None or momentum is None:
        raise BadSettings
    return Norm(eps, momentum, "nogamma" not in chosen)


def activation(option: ast.Option | None, diagnostics: Diagnostics) -> Activate | None:
    """The activation that an option names; None for none and for ``linear``.

    Raises:
        BadSettings: after noting what is wrong.
    """
    if option is None:
        return None
    kind, value = option.name, option.value
    if kind not in NUMBERS:
        if value is not None:
            diagnostics.add(option.span, f"`{kind}` takes no number", f"write `{kind}` alone")
            raise BadSettings
        return None if kind == "linear" else Activate(kind)
    alpha: float | None = NUMBERS[kind]
    if value is not None:
        alpha = check_real(value, f"`{kind}`'s number", diagnostics, signed=kind == "sign")
    if alpha is None:
        raise BadSettings
    return Activate(kind, alpha)


def whole(option: ast.Option | None, default: int, diagnostics: Diagnostics, least: int = 1) -> int | None:
    """An integer setting; None after noting an error."""
    if option is None:
        return default
    return whole_value(option.value, f"`{option.name}`", option.span, diagnostics, least)


def whole_value(
    value: ast.OptionValue | ast.LayerArgument, what: str, span: Span, diagnostics: Diagnostics, least: int = 1
) -> int | None:
    """An integer at a place where the grammar allows more; None after noting an error."""
    if isinstance(value, (ast.Integer, ast.Name, ast.Binary, ast.Negative)):
        return integer(value, diagnostics, least, what)
    diagnostics.add(span, f"{what} must be a whole number")
    return None


def number(
    option: ast.Option | None,
    default: float,
    diagnostics: Diagnostics,
    *,
    most: float = math.inf,
    positive: bool = False,
) -> float | None:
    """A real setting that is not negative, not infinite and at most ``most``; None after noting an error."""
    if option is None:
        return default
    return check_real(option.value, f"`{option.name}`", diagnostics, most=most, positive=positive, span=option.span)


def check_real(
    value: ast.OptionValue | ast.LayerArgument,
    what: str,
    diagnostics: Diagnostics,
    *,
    most: float = math.inf,
    positive: bool = False,
    signed: bool = False,
    span: Span | None = None,
) -> float | None:
    """A finite number within bounds; ``signed`` ones may be negative. None after noting an error."""
    if isinstance(value, (ast.Integer, ast.Name, ast.Binary, ast.Negative)):
        whole = integer(value, diagnostics)
        if whole is None:
            return None
        found = float(whole)
    elif isinstance(value, ast.Real):
        found = real(value)
    else:
        assert span is not None or value is not None
        diagnostics.add(span or value.span, f"{what} must be a number")  # type: ignore[union-attr]
        return None
    if not math.isfinite(found) or (found < 0 and not signed) or found > most or (positive and found == 0):
        bounds = "a positive number" if positive else "zero or a positive number"
        bounds = "a finite number" if signed else bounds
        bounds = f"between 0 and {most:g}" if math.isfinite(most) else bounds
        text = value.text if isinstance(value, ast.Real) else f"{found:g}"
        diagnostics.add(value.span, f"{what} must be {bounds}, not `{text}`")
        return None
    return found
