"""Statements without filters: norms, dropout, activations, and what moves pixels or channels."""

from __future__ import annotations

from collections.abc import Callable

from cnnc.frontend import ast, vocabulary
from cnnc.frontend.diagnostics import Diagnostics
from cnnc.frontend.expressions import dims, integer
from cnnc.frontend.layer_parts import Place
from cnnc.frontend.layers import (
    ActivationLayer,
    BareLayer,
    ContrastLayer,
    CountLayer,
    CropLayer,
    DropoutLayer,
    NormLayer,
    Resolved,
    ResponseLayer,
    ScaleLayer,
    UpsampleLayer,
    ZeroPadLayer,
)
from cnnc.frontend.settings import (
    BadSettings,
    Chosen,
    activation,
    check_real,
    norm,
    number,
    whole,
    whole_value,
)
from cnnc.frontend.window_settings import Windows
from cnnc.ir.ops import Lrn
from cnnc.ir.window import Pair

DEFAULT_RATE = 0.5  # Srivastava et al. 2014
CONTRAST_EPS = 1.0


class PlainStatements:
    """Resolves statements of one keyword each; ``chosen`` are their options over those of the default line."""

    def __init__(self, diagnostics: Diagnostics, windows: Windows) -> None:
        self.diagnostics = diagnostics
        self.windows = windows

    def layer(self, keyword: str, place: Place, chosen: Chosen, argument: ast.LayerArgument) -> Resolved:
        """The layer of a statement.

        Raises:
            BadSettings: after noting what is wrong.
        """
        methods: dict[str, Callable[[Place, Chosen, ast.LayerArgument], Resolved]] = {
            "bn": self._bn,
            "lrn": self._lrn,
            "lcn": self._lcn,
            "dropout": self._dropout,
            "maxout": self._maxout,
            "shuffle": self._shuffle,
            "upsample": self._upsample,
            "zeropad": self._zeropad,
            "crop": self._crop,
            "scale": self._scale,
        }
        if keyword in methods:
            return methods[keyword](place, chosen, argument)
        if keyword == "linear":
            self.diagnostics.add(place.head, "`linear` is no layer of its own", "a fully connected layer is `fc 10`")
            raise BadSettings
        if keyword in vocabulary.ACTIVATIONS:
            return self._activation(keyword, place, argument)
        return BareLayer(place, keyword)

    def check_default(self, kind: str, chosen: Chosen) -> None:
        """Check the values of a default line.

        Raises:
            BadSettings: after noting what is wrong.
        """
        if kind == "BN":
            norm(chosen, self.diagnostics)
        elif kind == "LRN":
            span = next(iter(chosen.values())).span
            self._lrn(Place("", span, span), chosen, None)
        else:
            self._rate(chosen["rate"].value)

    def _activation(self, keyword: str, place: Place, argument: ast.LayerArgument) -> Resolved:
        assert argument is None or isinstance(argument, (ast.Real, ast.Name, ast.Integer))
        found = activation(ast.Option(keyword, argument, place.span), self.diagnostics)
        assert found is not None
        return ActivationLayer(place, found)

    def _bn(self, place: Place, chosen: Chosen, argument: ast.LayerArgument) -> Resolved:
        found = norm(chosen, self.diagnostics)
        return NormLayer(place, found, activation(chosen.get("activation"), self.diagnostics))

    def _lrn(self, place: Place, chosen: Chosen, argument: ast.LayerArgument) -> Resolved:
        n = whole(chosen.get("n"), Lrn.n, self.diagnostics)
        alpha = number(chosen.get("alpha"), Lrn.alpha, self.diagnostics)
        beta = number(chosen.get("beta"), Lrn.beta, self.diagnostics)
        k = number(chosen.get("k"), Lrn.k, self.diagnostics, positive=True)
        if n is None or alpha is None or beta is None or k is None:
            raise BadSettings
        return ResponseLayer(place, n, alpha, beta, k)

    def _lcn(self, place: Place, chosen: Chosen, argument: ast.LayerArgument) -> Resolved:
        size = chosen.get("size")
        if size is None:
            example = "lcn f=9" if self.windows.sequence else "lcn 9x9"
            self.diagnostics.add(place.head, "`lcn` has no size", f"for example `{example}`")
        kernel = self.windows.kernel(size) if size else None
        eps = number(chosen.get("eps"), CONTRAST_EPS, self.diagnostics, positive=True)
        if kernel is None or eps is None:
            raise BadSettings
        return ContrastLayer(place, kernel, eps)

    def _dropout(self, place: Place, chosen: Chosen, argument: ast.LayerArgument) -> Resolved:
        default = chosen.get("rate")
        value = argument if argument is not None else default.value if default else None
        return DropoutLayer(place, DEFAULT_RATE if value is None else self._rate(value))

    def _rate(self, value: ast.OptionValue | ast.LayerArgument) -> float:
        rate = check_real(value, "a dropout rate", self.diagnostics, most=1.0)
        if rate == 1.0:
            assert value is not None
            self.diagnostics.add(value.span, "a dropout rate of 1 leaves nothing")
        if rate is None or rate == 1.0:
            raise BadSettings
        return rate

    def _maxout(self, place: Place, chosen: Chosen, argument: ast.LayerArgument) -> Resolved:
        return CountLayer(place, "maxout", self._count(place, argument, "a number of pieces", "pieces"))

    def _shuffle(self, place: Place, chosen: Chosen, argument: ast.LayerArgument) -> Resolved:
        return CountLayer(place, "shuffle", self._count(place, argument, "a number of groups", "groups"))

    def _count(self, place: Place, argument: ast.LayerArgument, what: str, attribute: str) -> int:
        count = whole_value(argument, what, place.blame(attribute), self.diagnostics)
        if count is None:
            raise BadSettings
        return count

    def _upsample(self, place: Place, chosen: Chosen, argument: ast.LayerArgument) -> Resolved:
        assert not isinstance(argument, ast.Reference)
        factor = self.windows.extent(argument, place.blame("factor"), "a factor")
        if factor is None:
            raise BadSettings
        return UpsampleLayer(place, factor, chosen["mode"].name if "mode" in chosen else "nearest")

    def _zeropad(self, place: Place, chosen: Chosen, argument: ast.LayerArgument) -> Resolved:
        pad = self.windows.border(argument, place.blame("pad"), "a border")
        if pad is None:
            raise BadSettings
        return ZeroPadLayer(place, pad)

    def _crop(self, place: Place, chosen: Chosen, argument: ast.LayerArgument) -> Resolved:
        size: Pair | None = None
        if isinstance(argument, ast.Dims):
            size = self._size(argument)
        offset = self._offset(chosen["offset"]) if "offset" in chosen else None
        like = (argument.target or argument.text) if isinstance(argument, ast.Reference) else ""
        return CropLayer(place, size, like, offset)

    def _size(self, argument: ast.Dims) -> Pair:
        found = dims(argument, self.diagnostics, "a crop")
        if found is not None and (self.windows.sequence or len(found) != 2):
            what = "a sequence is cropped" if self.windows.sequence else "a crop has a height and a width"
            hint = "write `crop like` and the name of a layer" if self.windows.sequence else "for example `crop 24x24`"
            self.diagnostics.add(argument.span, what + (" to another's length" * self.windows.sequence), hint)
            found = None
        if found is None:
            raise BadSettings
        return found[0], found[1]

    def _offset(self, option: ast.Option) -> Pair:
        """``4`` or ``(y,x)``, from 0 on."""
        value = option.value
        if isinstance(value, ast.Tuple):
            found = [integer(item, self.diagnostics, 0, "an offset") for item in value.items]
            if len(found) != 2 or self.windows.sequence:
                hint = "write one number" + " or (y,x)" * (not self.windows.sequence)
                self.diagnostics.add(option.span, f"an offset with {len(found)} numbers", hint)
                raise BadSettings
        else:
            one = whole_value(value, "an offset", option.span, self.diagnostics, 0)
            found = [one, 0 if self.windows.sequence else one]
        if found[0] is None or found[1] is None:
            raise BadSettings
        return found[0], found[1]

    def _scale(self, place: Place, chosen: Chosen, argument: ast.LayerArgument) -> Resolved:
        if argument is None:
            return ScaleLayer(place, None)
        factor = check_real(argument, "a factor", self.diagnostics, signed=True)
        if factor is None:
            raise BadSettings
        return ScaleLayer(place, factor)
