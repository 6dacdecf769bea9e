"""Options of one statement over the defaults of its kind, and their values checked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from cnnc.frontend import ast, vocabulary
from cnnc.frontend.diagnostics import Diagnostics
from cnnc.frontend.expressions import dims, integer, pair, real
from cnnc.frontend.layers import Norm, Padding, WindowSettings
from cnnc.frontend.slips import unknown_option
from cnnc.ir.window import Pair
from cnnc.source import Span

# Options by concern: what a kernel, stride, padding, ... was given as.
Chosen = Mapping[str, ast.Option]

# How a concern is called where ops blame an attribute.
_ATTRIBUTE = {"size": "kernel", "padding": "pad"}


class BadSettings(Exception):
    """A statement whose errors are already noted."""


def choose(options: Iterable[ast.Option], takes: str, diagnostics: Diagnostics, shown: str = "") -> Chosen | None:
    """Options by concern; None after noting unknown ones, repetitions and contradictions.

    ``takes`` is the keyword whose options may stand here, ``shown`` how messages call it.
    """
    chosen: dict[str, ast.Option] = {}
    sound = True
    for option in options:
        if not option.known:
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
    hint = unknown_option(option.name, takes)
    diagnostics.add(option.span, f"`{shown}` has no option `{option.name}`", hint)


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


def window(chosen: Chosen, missing: tuple[Span, str, str], is_pool: bool, diagnostics: Diagnostics) -> WindowSettings:
    """Kernel, stride, padding, dilation. ``missing`` is where, how and with which hint to report a missing size.

    Raises:
        BadSettings: after noting what is wrong.
    """
    size = chosen.get("size")
    if size is None:
        diagnostics.add(*missing)
    kernel = _kernel(size, diagnostics) if size else None
    stride = _extent(chosen.get("stride"), "stride", diagnostics)
    dilation = _extent(chosen.get("dilation"), "dilation", diagnostics)
    padding = _padding(chosen.get("padding"), diagnostics)
    if kernel is None or stride is None or dilation is None or padding is None:
        raise BadSettings
    if is_pool and "stride" not in chosen:
        stride = kernel
    return WindowSettings(kernel, stride, padding, dilation, "ceil" in chosen)


def _kernel(option: ast.Option, diagnostics: Diagnostics) -> Pair | None:
    if not isinstance(option.value, ast.Dims):
        return pair(option.value, diagnostics, 1, "a kernel's extent")
    found = dims(option.value, diagnostics, "a kernel")
    if found is None:
        return None
    if len(found) != 2:
        count = len(option.value.extents)
        diagnostics.add(option.span, f"a kernel has a height and a width, not {count} extents")
        return None
    return found[0], found[1]


def _extent(option: ast.Option | None, what: str, diagnostics: Diagnostics) -> Pair | None:
    """A stride or dilation; 1 if not given."""
    return (1, 1) if option is None else pair(option.value, diagnostics, 1, what)


def _padding(option: ast.Option | None, diagnostics: Diagnostics) -> Padding | None:
    if option is None or option.name == "valid":
        return Padding("explicit")
    if option.name == "same":
        return Padding("tf" if option.value is not None else "same")
    if not isinstance(option.value, ast.Tuple):
        one = pair(option.value, diagnostics, 0, "padding")
        return None if one is None else Padding("explicit", (one[0], one[0], one[0], one[0]))
    found = [integer(item, diagnostics, 0, "padding") for item in option.value.items]
    values = [value for value in found if value is not None]
    if len(found) not in (2, 4):
        hint = "write one number, (height,width) or (top,bottom,left,right)"
        diagnostics.add(option.span, f"padding with {len(found)} numbers", hint)
        return None
    if len(values) != len(found):
        return None
    if len(values) == 2:
        return Padding("explicit", (values[0], values[0], values[1], values[1]))
    return Padding("explicit", (values[0], values[1], values[2], values[3]))


def norm(chosen: Chosen, diagnostics: Diagnostics) -> Norm:
    """Batch norm's settings.

    Raises:
        BadSettings: after noting what is wrong.
    """
    eps = number(chosen.get("eps"), Norm.eps, diagnostics, positive=True)
    momentum = number(chosen.get("momentum"), Norm.momentum, diagnostics, most=1.0)
    if eps is None or momentum is None:
        raise BadSettings
    return Norm(eps, momentum)


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
    value = option.value
    if isinstance(value, ast.Integer):
        value = ast.Real(value.text, value.span)
    assert isinstance(value, ast.Real)
    return check_real(value, f"`{option.name}`", diagnostics, most=most, positive=positive)


def check_real(
    value: ast.Real, what: str, diagnostics: Diagnostics, *, most: float = math.inf, positive: bool = False
) -> float | None:
    found = real(value)
    if not math.isfinite(found) or found < 0 or found > most or (positive and found == 0):
        bounds = "a positive number" if positive else "zero or a positive number"
        bounds = f"between 0 and {most:g}" if math.isfinite(most) else bounds
        diagnostics.add(value.span, f"{what} must be {bounds}, not `{value.text}`")
        return None
    return found
