"""One statement to its resolved layers: defaults applied, options and values checked."""

from __future__ import annotations

from dataclasses import dataclass, field

from cnnc.frontend import ast, vocabulary
from cnnc.frontend.diagnostics import Diagnostics
from cnnc.frontend.expressions import dims, integer
from cnnc.frontend.layers import (
    Affine,
    BareLayer,
    ConvLayer,
    DenseLayer,
    DropoutLayer,
    FailedLayer,
    NormLayer,
    Place,
    PoolLayer,
    Resolved,
)
from cnnc.frontend.order import Letter
from cnnc.frontend.settings import BadSettings, Chosen, check_real, choose, norm, operand_spans, window
from cnnc.source import Span

DEFAULT_RATE = 0.5  # Srivastava et al. 2014


@dataclass
class Defaults:
    """The default lines in force, by kind; ``broken`` kinds have errors: their layers can't be judged."""

    chosen: dict[str, Chosen] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)

    def copy(self) -> Defaults:
        return Defaults(dict(self.chosen), set(self.broken))


class Statements:
    """Resolves statements that read no parameters any more."""

    def __init__(self, diagnostics: Diagnostics) -> None:
        self.diagnostics = diagnostics
        self.defaults = Defaults()
        self.sizeless: set[str] = set()  # letters that were told once that they have no size

    def default(self, item: ast.Default) -> None:
        """Put a default line in force."""
        kind = item.kind.text
        takes = vocabulary.head_of_default(kind)
        chosen = choose(item.options, takes, self.diagnostics, f"{kind}:")
        self.defaults.broken.discard(kind)
        if chosen is None or not self._sound(kind, chosen):
            self.defaults.broken.add(kind)
        self.defaults.chosen[kind] = chosen or {}

    def _sound(self, kind: str, chosen: Chosen) -> bool:
        """Check a default line's values where they stand, not at each layer that uses them."""
        before = len(self.diagnostics.found)
        try:
            if kind in ("CONV", "POOL"):
                # A size must exist for the check; its value does not matter.
                span = next(iter(chosen.values())).span
                probe = {"size": ast.Option("size", ast.Dims(("1", "1"), span), span), **chosen}
                window(probe, (span, "", ""), kind == "POOL", self.diagnostics)
                self._groups(chosen)
            elif kind == "BN":
                norm(chosen, self.diagnostics)
            elif kind == "DROPOUT":
                self._rate(chosen["rate"].value)
        except BadSettings:
            pass
        return len(self.diagnostics.found) == before

    def layer(self, item: ast.Layer, name: str) -> list[Resolved]:
        """The layers of one explicit statement of that name."""
        keyword = item.keyword.text
        chosen = choose(item.options, keyword, self.diagnostics)
        operands = operand_spans(chosen or {})
        if item.argument is not None:
            operands["width"] = item.argument.span
        shape = dims(item.assertion, self.diagnostics, "a shape") if item.assertion else None
        assertion_span = item.assertion.span if item.assertion else None
        place = Place(name, item.keyword.span, item.span, operands, shape, assertion_span)
        try:
            if chosen is None:
                raise BadSettings
            return [self._layer(keyword, place, chosen, item.argument)]
        except BadSettings:
            return [FailedLayer(place)]

    def _layer(self, keyword: str, place: Place, own: Chosen, argument: ast.LayerArgument) -> Resolved:
        kind = vocabulary.DEFAULT_OF.get(keyword, "")
        chosen = {**self.defaults.chosen.get(kind, {}), **own}
        if keyword in ("conv", "fc"):
            assert isinstance(argument, (ast.Integer, ast.Name, ast.Binary, ast.Negative))
            width = integer(argument, self.diagnostics, 1, "a width")
            hint = f"for example `{keyword} 64 3x3`, or a line `CONV: f=3`"
            missing = (place.head, f"`{keyword}` has no filter size", hint)
            return self._affine_layer(keyword, place, chosen, width, missing)
        if keyword in ("maxpool", "avgpool"):
            hint = f"for example `{keyword} 2x2`, or a line `POOL: f=2, s=2`"
            return self._pool(keyword, place, chosen, (place.head, f"`{keyword}` has no size", hint))
        if keyword == "bn":
            self._refuse_broken("BN")
            return NormLayer(place, norm(chosen, self.diagnostics))
        if keyword == "dropout":
            return self._dropout(place, argument if isinstance(argument, ast.Real) else None)
        return BareLayer(place, keyword)

    # -- the slide --------------------------------------------------------------------------------

    def letter(self, letter: Letter) -> Resolved:
        """The layer of one letter of the slide."""
        own = choose(letter.options, letter.keyword, self.diagnostics) or {}
        place = Place(letter.name, letter.span, letter.span, operand_spans(own))
        try:
            return self._letter_layer(letter, place, own)
        except BadSettings:
            return FailedLayer(place)

    def _letter_layer(self, letter: Letter, place: Place, own: Chosen) -> Resolved:
        chosen = {**self.defaults.chosen.get(vocabulary.DEFAULT_OF.get(letter.keyword, ""), {}), **own}
        default = "CONV: f=3" if letter.letter == "C" else "POOL: f=2, s=2"
        missing = (letter.span, f"`{letter.letter}` has no size", f"write `{letter.letter}3`, or a line `{default}`")
        if letter.letter in vocabulary.WITH_SIZE and "size" not in chosen:
            if letter.letter in self.sizeless:
                raise BadSettings
            self.sizeless.add(letter.letter)
        if letter.letter == "S":
            # The classifier takes no batch norm or activation from `FC:`; its own is softmax.
            chosen = {concern: option for concern, option in chosen.items() if concern == "bias"}
            chosen["activation"] = ast.Option("softmax", None, letter.span)
        elif letter.letter in "CF":
            chosen.setdefault("activation", ast.Option("relu", None, letter.span))
        if letter.keyword in ("conv", "fc"):
            return self._affine_layer(letter.keyword, place, chosen, letter.width, missing)
        if letter.keyword in ("maxpool", "avgpool"):
            return self._pool(letter.keyword, place, chosen, missing)
        if letter.keyword == "bn":
            self._refuse_broken("BN")
            return NormLayer(place, norm(chosen, self.diagnostics))
        if letter.keyword == "dropout":
            return self._dropout(place, None)
        return BareLayer(place, letter.keyword)

    # -- layers of both ---------------------------------------------------------------------------

    def _affine_layer(
        self, keyword: str, place: Place, chosen: Chosen, width: int | None, missing: tuple[Span, str, str]
    ) -> Resolved:
        """A conv or fc. Its parts are all checked before any of them fails the layer."""
        self._refuse_broken(vocabulary.DEFAULT_OF[keyword])
        settings = window(chosen, missing, False, self.diagnostics) if keyword == "conv" else None
        groups = self._groups(chosen)
        option = chosen.get("activation")
        activation = None if option is None or option.name == "linear" else option.name
        batch_norm = None
        if "bn" in chosen and chosen["bn"].name == "bn":
            self._refuse_broken("BN")
            batch_norm = norm(self.defaults.chosen.get("BN", {}), self.diagnostics)
        if width is None:
            raise BadSettings
        affine = Affine(width, not ("bias" in chosen and chosen["bias"].name == "nobias"), batch_norm, activation)
        return ConvLayer(place, settings, groups, affine) if settings else DenseLayer(place, affine)

    def _groups(self, chosen: Chosen) -> int:
        if "groups" not in chosen:
            return 1
        value = chosen["groups"].value
        assert isinstance(value, (ast.Integer, ast.Name, ast.Binary, ast.Negative))
        groups = integer(value, self.diagnostics, 1, "groups")
        if groups is None:
            raise BadSettings
        return groups

    def _pool(self, keyword: str, place: Place, chosen: Chosen, missing: tuple[Span, str, str]) -> Resolved:
        self._refuse_broken("POOL")
        kind = keyword.removesuffix("pool")
        if kind == "max" and "countpad" in chosen and "countpad" in place.operands:
            option = chosen["countpad"]
            self.diagnostics.add(option.span, "`maxpool` has no option `countpad`", "padding never wins a maximum")
            raise BadSettings
        settings = window(chosen, missing, True, self.diagnostics)
        return PoolLayer(place, kind, settings, "countpad" in chosen)

    def _dropout(self, place: Place, own: ast.Real | None) -> Resolved:
        self._refuse_broken("DROPOUT")
        default = self.defaults.chosen.get("DROPOUT", {}).get("rate")
        value = own or (default.value if default else None)
        return DropoutLayer(place, DEFAULT_RATE if value is None else self._rate(value))

    def _rate(self, value: ast.OptionValue) -> float:
        assert isinstance(value, ast.Real)
        rate = check_real(value, "a dropout rate", self.diagnostics, most=1.0)
        if rate == 1.0:
            self.diagnostics.add(value.span, "a dropout rate of 1 leaves nothing")
        if rate is None or rate == 1.0:
            raise BadSettings
        return rate

    def _refuse_broken(self, kind: str) -> None:
        if kind in self.defaults.broken:
            raise BadSettings
