"""One statement to its resolved layers: defaults applied, options and values checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from cnnc.frontend import ast, vocabulary
from cnnc.frontend.affine_settings import connections, numbers, weights
from cnnc.frontend.diagnostics import Diagnostics
from cnnc.frontend.expressions import dims
from cnnc.frontend.layer_parts import Affine, Norm, Padding, Place, WindowSettings
from cnnc.frontend.layers import (
    ConvLayer,
    DeconvLayer,
    DenseLayer,
    DepthwiseLayer,
    FailedLayer,
    PoolLayer,
    RbfLayer,
    Resolved,
    SubsampleLayer,
)
from cnnc.frontend.order import Letter
from cnnc.frontend.plain_statements import PlainStatements
from cnnc.frontend.settings import (
    BadSettings,
    Chosen,
    activation,
    choose,
    norm,
    operand_spans,
    sound,
    whole,
    whole_value,
)
from cnnc.frontend.window_settings import Windows
from cnnc.source import Span

_CONVS = ("conv", "deconv", "sepconv", "dwconv")
_POOLS = ("maxpool", "avgpool", "l2pool", "subsample")
# What the statement's number is called where ops blame an attribute.
_ARGUMENT = {"maxout": "pieces", "shuffle": "groups", "upsample": "factor", "zeropad": "pad"}


@dataclass
class Defaults:
    """The default lines in force, by kind; ``broken`` kinds have errors: their layers can't be judged."""

    chosen: dict[str, Chosen] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)

    def copy(self) -> Defaults:
        return Defaults(dict(self.chosen), set(self.broken))


class Statements:
    """Resolves statements that read no parameters any more; in a ``sequence`` (a 1-D net) windows have one extent."""

    def __init__(self, diagnostics: Diagnostics, sequence: bool = False) -> None:
        self.diagnostics = diagnostics
        self.defaults = Defaults()
        self.windows = Windows(diagnostics, sequence)
        self.plain = PlainStatements(diagnostics, self.windows)
        self.sizeless: set[str] = set()  # letters that were told once that they have no size

    # -- default lines ----------------------------------------------------------------------------

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
            if kind in ("BN", "LRN", "DROPOUT"):
                self.plain.check_default(kind, chosen)
            elif kind == "FC":
                self._affine(kind.lower(), chosen, 1, Norm())
            else:
                # A size must exist for the check; its value does not matter.
                span = next(iter(chosen.values())).span
                probe = {"size": ast.Option("f", ast.Integer("1", span), span), **chosen}
                self.windows.settings(probe, (span, "", ""), kind == "POOL")
                if kind != "POOL":
                    self._affine(kind.lower(), chosen, 1, Norm())
                    sound(whole(chosen.get("groups"), 1, self.diagnostics), whole(chosen.get("m"), 1, self.diagnostics))
        except BadSettings:
            pass
        return len(self.diagnostics.found) == before

    def over_default(self, keyword: str, own: Chosen) -> Chosen:
        """A statement's options over the default line of its kind.

        Raises:
            BadSettings: that line has errors.
        """
        kind = vocabulary.DEFAULT_OF.get(keyword, "")
        if kind in self.defaults.broken:
            raise BadSettings
        return {**self.defaults.chosen.get(kind, {}), **own}

    # -- statements -------------------------------------------------------------------------------

    def layer(self, item: ast.Layer, name: str) -> list[Resolved]:
        """The layers of one explicit statement of that name."""
        keyword = item.keyword.text
        chosen = choose(item.options, keyword, self.diagnostics)
        operands = operand_spans(chosen or {})
        if item.argument is not None:
            operands[_ARGUMENT.get(keyword, "width")] = item.argument.span
        shape = dims(item.assertion, self.diagnostics, "a shape") if item.assertion else None
        assertion_span = item.assertion.span if item.assertion else None
        place = Place(name, item.keyword.span, item.span, operands, shape, assertion_span)
        try:
            if chosen is None:
                raise BadSettings
            return self._layer(keyword, place, chosen, item.argument)
        except BadSettings:
            return [FailedLayer(place)]

    def _layer(self, keyword: str, place: Place, own: Chosen, argument: ast.LayerArgument) -> list[Resolved]:
        if keyword in _CONVS or keyword == "fc":
            return self._product(keyword, place, own, argument)
        chosen = self.over_default(keyword, own)
        if keyword in _POOLS:
            known = f", or a line `{vocabulary.DEFAULT_OF[keyword]}: f=2, s=2`" if keyword != "subsample" else ""
            missing = (place.head, f"`{keyword}` has no size", f"for example `{keyword} 2x2`{known}")
            return [self._pool(keyword, place, chosen, missing)]
        if keyword == "rbf":
            return [self._rbf(place, chosen, argument)]
        return [self.plain.layer(keyword, place, chosen, argument)]

    def _product(self, keyword: str, place: Place, own: Chosen, argument: ast.LayerArgument) -> list[Resolved]:
        """A statement with weights. The width is checked even where the rest fails."""
        width: int | None = 0
        if keyword != "dwconv":
            span = place.blame("width")
            width = whole_value(argument, "a width", span, self.diagnostics)
        chosen = self.over_default(keyword, own)
        example = keyword if keyword == "dwconv" else f"{keyword} 64"
        hint = f"for example `{example} 3x3`, or a line `{vocabulary.DEFAULT_OF[keyword]}: f=3`"
        missing = (place.head, f"`{keyword}` has no filter size", hint)
        return self._affine_layer(keyword, place, chosen, width, missing)

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
        chosen = dict(self.over_default(letter.keyword, own))
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
            return self._affine_layer(letter.keyword, place, chosen, letter.width, missing)[0]
        if letter.keyword in _POOLS:
            return self._pool(letter.keyword, place, chosen, missing)
        return self.plain.layer(letter.keyword, place, chosen, None)

    # -- layers of both ---------------------------------------------------------------------------

    def _affine_layer(
        self, keyword: str, place: Place, chosen: Chosen, width: int | None, missing: tuple[Span, str, str]
    ) -> list[Resolved]:
        """A conv of any kind or fc. Its parts are all checked before any of them fails the layer."""
        window = None if keyword == "fc" else self._checked(lambda: self.windows.settings(chosen, missing, False))
        groups, multiplier = (whole(chosen.get(name), 1, self.diagnostics) for name in ("groups", "m"))
        batch_norm = None
        if "bn" in chosen and chosen["bn"].name == "bn":
            batch_norm = norm(self.over_default("bn", {}), self.diagnostics)
        affine = self._affine(keyword, chosen, width or 0, batch_norm)
        connect = connections(chosen.get("connect"), width, self.diagnostics)
        if width is None or groups is None or multiplier is None:
            raise BadSettings
        if keyword == "fc":
            return [DenseLayer(place, affine)]
        if window is None:
            raise BadSettings
        if keyword == "deconv":
            return [DeconvLayer(place, window, groups, affine)]
        if keyword == "dwconv":
            return [DepthwiseLayer(place, window, multiplier, affine)]
        if keyword == "sepconv":
            return _separable(place, window, multiplier, affine)
        if connect and groups != 1:
            self.diagnostics.add(place.blame("connect"), "`connect` and `groups` both say who is connected to whom")
            raise BadSettings
        return [ConvLayer(place, window, groups, affine, connect)]

    def _checked(self, read: Callable[[], WindowSettings]) -> WindowSettings | None:
        """The settings, or None after noting what is wrong, so that more can be checked."""
        try:
            return read()
        except BadSettings:
            return None

    def _affine(self, keyword: str, chosen: Chosen, width: int, batch_norm: Norm | None) -> Affine:
        bias = chosen.get("bias")
        position = bias is not None and bias.value is not None
        if bias is not None and position:
            where = bias.value.text if isinstance(bias.value, ast.Name) else ""
            if where != "position" or keyword != "conv":
                hint = "`bias=position` gives a conv one bias for each position" if keyword == "conv" else None
                self.diagnostics.add(bias.span, f"`{keyword}` takes no `{bias.span.text}`", hint)
                raise BadSettings
        return Affine(
            width,
            bias is None or bias.name == "bias",
            batch_norm,
            activation(chosen.get("activation"), self.diagnostics),
            position,
            weights(chosen, keyword, self.diagnostics),
        )

    def _pool(self, keyword: str, place: Place, chosen: Chosen, missing: tuple[Span, str, str]) -> Resolved:
        window = self.windows.settings(chosen, missing, True)
        if keyword == "subsample":
            return SubsampleLayer(place, window, activation(chosen.get("activation"), self.diagnostics))
        return PoolLayer(place, keyword.removesuffix("pool"), window, "countpad" in chosen)

    def _rbf(self, place: Place, chosen: Chosen, argument: ast.LayerArgument) -> Resolved:
        count = whole_value(argument, "a number of codes", place.blame("width"), self.diagnostics)
        option = chosen.get("codes")
        if option is None:
            self.diagnostics.add(place.head, "`rbf` needs its codes", "for example `rbf 2 codes=[+-+- | -++-]`")
        elif not isinstance(option.value, ast.Literal):
            self.diagnostics.add(option.span, "`codes` are numbers in brackets", "for example `codes=[+-+- | -++-]`")
        if count is None or option is None or not isinstance(option.value, ast.Literal):
            raise BadSettings
        rows = len(option.value.rows)
        if rows not in (1, count):
            self.diagnostics.add(option.span, f"{rows} codes for `rbf {count}`", "one code for each class")
            raise BadSettings
        return RbfLayer(place, count, numbers(option.value, "codes", self.diagnostics))


def _separable(place: Place, window: WindowSettings, multiplier: int, affine: Affine) -> list[Resolved]:
    """Depthwise, then 1x1, which alone has bias, batch norm and activation (Chollet 2017)."""
    first = replace(place, name=f"{place.name}.depthwise", assertion=None, assertion_span=None)
    second = replace(place, name=f"{place.name}.pointwise", alias=place.name)
    pointwise = WindowSettings((1, 1), (1, 1), Padding("explicit"))
    return [
        DepthwiseLayer(first, window, multiplier, Affine(0, False, None, None)),
        ConvLayer(second, pointwise, 1, affine),
    ]
