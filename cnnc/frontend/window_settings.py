"""Kernel, stride, padding and dilation of a statement, on images and on sequences."""

from __future__ import annotations

from cnnc.frontend import ast
from cnnc.frontend.diagnostics import Diagnostics
from cnnc.frontend.expressions import dims, integer, pair
from cnnc.frontend.layer_parts import Padding, WindowSettings
from cnnc.frontend.settings import BadSettings, Chosen, whole_value
from cnnc.ir.window import Pad, Pair
from cnnc.source import Span


class Windows:
    """Reads window options; in a ``sequence`` (a 1-D net) windows run along the height alone."""

    def __init__(self, diagnostics: Diagnostics, sequence: bool) -> None:
        self.diagnostics = diagnostics
        self.sequence = sequence

    def settings(self, chosen: Chosen, missing: tuple[Span, str, str], is_pool: bool) -> WindowSettings:
        """``missing`` is where, how and with which hint to report a missing size.

        Raises:
            BadSettings: after noting what is wrong.
        """
        size = chosen.get("size")
        if size is None:
            where, message, hint = missing
            self.diagnostics.add(where, message, _without_sizes(hint) if self.sequence else hint)
        kernel = self.kernel(size) if size else None
        stride = self.step(chosen.get("stride"), "stride")
        dilation = self.step(chosen.get("dilation"), "dilation")
        padding = self._padding(chosen.get("padding"))
        if kernel is None or stride is None or dilation is None or padding is None:
            raise BadSettings
        if is_pool and "stride" not in chosen:
            stride = kernel
        return WindowSettings(kernel, stride, padding, dilation, "ceil" in chosen)

    def kernel(self, option: ast.Option) -> Pair | None:
        if self.sequence and isinstance(option.value, (ast.Dims, ast.Tuple)):
            first = option.span.text.partition("x")[0] if isinstance(option.value, ast.Dims) else "3"
            self.diagnostics.add(option.span, "a kernel along a sequence has one extent", f"write `f={first}`")
            return None
        if not isinstance(option.value, ast.Dims):
            return self.extent(option.value, option.span, "a kernel's extent")
        found = dims(option.value, self.diagnostics, "a kernel")
        if found is None:
            return None
        if len(found) != 2:
            count = len(option.value.extents)
            self.diagnostics.add(option.span, f"a kernel has a height and a width, not {count} extents")
            return None
        return found[0], found[1]

    def extent(self, value: ast.OptionValue | ast.LayerArgument, span: Span, what: str) -> Pair | None:
        """``2`` or ``(1,2)``, at least 1; in a sequence a number for the height."""
        if isinstance(value, ast.Tuple):
            if self.sequence:
                self.diagnostics.add(value.span, f"{what} along a sequence is one number")
                return None
            return pair(value, self.diagnostics, 1, what)
        one = whole_value(value, what, span, self.diagnostics)
        if one is None:
            return None
        return (one, 1) if self.sequence else (one, one)

    def step(self, option: ast.Option | None, what: str) -> Pair | None:
        """A stride or dilation; 1 if not given."""
        return (1, 1) if option is None else self.extent(option.value, option.span, what)

    def _padding(self, option: ast.Option | None) -> Padding | None:
        if option is None or option.name == "valid":
            return Padding("explicit")
        if option.name == "same":
            return Padding("tf" if option.value is not None else "same")
        if option.name == "causal":
            if self.sequence:
                return Padding("causal")
            hint = "an image has no direction; write `pad=(top,bottom,left,right)`"
            self.diagnostics.add(option.span, "`causal` is for sequences such as `input 64x32`", hint)
            return None
        found = self.border(option.value, option.span, "padding")
        return None if found is None else Padding("explicit", found)

    def border(self, value: ast.OptionValue | ast.LayerArgument, span: Span, what: str) -> Pad | None:
        """``1``, ``(h,w)`` or ``(top,bottom,left,right)``; ``1`` or ``(before,after)`` in a sequence."""
        if not isinstance(value, ast.Tuple):
            one = whole_value(value, what, span, self.diagnostics, 0)
            if one is None:
                return None
            return (one, one, 0, 0) if self.sequence else (one, one, one, one)
        found = [integer(item, self.diagnostics, 0, what) for item in value.items]
        values = [number for number in found if number is not None]
        if len(found) not in ((2,) if self.sequence else (2, 4)):
            forms = "(before,after)" if self.sequence else "(height,width) or (top,bottom,left,right)"
            self.diagnostics.add(span, f"{what} with {len(found)} numbers", f"write one number{_or(forms)}")
            return None
        if len(values) != len(found):
            return None
        if self.sequence:
            return values[0], values[1], 0, 0
        if len(values) == 2:
            return values[0], values[0], values[1], values[1]
        return values[0], values[1], values[2], values[3]


def _or(forms: str) -> str:
    return f", {forms}" if " or " in forms else f" or {forms}"


def _without_sizes(hint: str) -> str:
    """``conv 64 3x3`` is ``conv 64 f=3`` along a sequence."""
    return hint.replace("3x3", "f=3").replace("2x2", "f=2")
