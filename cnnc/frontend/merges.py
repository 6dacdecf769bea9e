"""``add``, ``concat`` and ``mul``: arms one after another, then their merge; shortcuts last, for they need a shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from cnnc.frontend import ast
from cnnc.frontend.expressions import real
from cnnc.frontend.layer_parts import Place
from cnnc.frontend.layers import MergeLayer, ShortcutLayer, StridedCopyLayer
from cnnc.frontend.names import Entry
from cnnc.frontend.settings import BadSettings, Chosen, activation, choose, norm
from cnnc.frontend.substitute import BadValue
from cnnc.frontend.walk import Walk
from cnnc.source import Span

Body = Callable[[Sequence[ast.Inner]], None]
Operand = tuple[float, str, Span]


def merge(walk: Walk, item: ast.Merge, body: Body) -> None:
    """Emit a merge's arms and the merge itself, as often as it says."""
    walk.refuse_modifiers(item)
    for name, entry in walk.turns(item, item.keyword.text, item.keyword.span):
        walk.step(item.span)
        place = walk.place(item, name, item.keyword.span)
        try:
            walk.emit(_merged(walk, item, place, body))
        except (BadValue, BadSettings):
            walk.fail(place)
        entry.layer = name


def _merged(walk: Walk, item: ast.Merge, place: Place, body: Body) -> MergeLayer:
    keyword = item.keyword.text
    chosen = choose(walk.substitution.options(item.options, keyword), keyword, walk.diagnostics)
    operands = _arms(walk, item, body) if item.arms else _by_name(walk, item)
    if chosen is None:
        raise BadSettings
    spans = {f"operand{number}": span for number, (_, _, span) in enumerate(operands, 1)}
    terms = tuple((factor, source) for factor, source, _ in operands)
    follows = activation(chosen.get("activation"), walk.diagnostics)
    return MergeLayer(replace(place, operands=spans), keyword, terms, follows)


def _by_name(walk: Walk, item: ast.Merge) -> list[Operand]:
    operands: list[Operand] = []
    sound = True
    for operand in item.operands:
        factor = _factor(walk, item, operand.factor)
        found = walk.references.many(operand.source)
        for source in found:
            walk.step(operand.span)
            operands.append((factor, source, operand.span))
        sound = sound and bool(found)
    if not sound:
        raise BadValue
    return operands


def _arms(walk: Walk, item: ast.Merge, body: Body) -> list[Operand]:
    """The arms' outputs, each arm reading what enters the merge."""
    if len(item.arms) == 1:
        hint = "one `|` stands before each arm; `identity` is the arm that changes nothing"
        walk.diagnostics.add(item.keyword.span, f"`{item.keyword.text}` with one arm has nothing to merge", hint)
    entering = walk.flow
    factors = [_factor(walk, item, arm.factor) for arm in item.arms]
    outputs: dict[int, str] = {}
    shortcuts: list[tuple[int, ast.Layer, str, Entry]] = []
    like: str | None = None
    for index, arm in enumerate(item.arms):
        alone = _alone(arm)
        if alone is not None and alone.keyword.text == "shortcut" and not _is_strided_copy(alone):
            # Its name is taken here, so that names count in the order of the text.
            shortcuts.append((index, alone, *next(walk.turns(alone, "shortcut", alone.keyword.span))))
        elif alone is not None and alone.keyword.text == "identity":
            _identity(walk, alone, entering)
            outputs[index] = entering
        else:
            walk.read(entering, arm.span)
            with walk.body(arm.span):
                body(arm.body)
            outputs[index] = walk.flow
            like = like or walk.flow
    if shortcuts and not outputs:
        walk.diagnostics.add(shortcuts[0][1].span, "`shortcut` takes its shape from another arm, and there is none")
        raise BadValue
    for index, layer, name, entry in shortcuts:
        walk.read(entering, layer.span)
        _shortcut(walk, layer, name, like or entering)
        entry.layer = outputs[index] = name
    return [(factors[index], outputs[index], _core(arm)) for index, arm in enumerate(item.arms)]


def _core(arm: ast.Arm) -> Span:
    """An arm's last statement, whose value is the arm's."""
    return arm.body[-1].span


def _alone(arm: ast.Arm) -> ast.Layer | None:
    """The only statement of an arm, if it is a layer."""
    first = arm.body[0]
    return first if len(arm.body) == 1 and isinstance(first, ast.Layer) else None


def _factor(walk: Walk, item: ast.Merge, factor: ast.Real | ast.Name | None) -> float:
    if factor is None:
        return 1.0
    if item.keyword.text == "mul":
        walk.diagnostics.add(factor.span, "`mul` takes no factors", "`add` and `concat` do")
        raise BadValue
    value = walk.substitution.real(factor)
    found = real(value)
    if abs(found) == float("inf"):
        walk.diagnostics.add(factor.span, f"the factor {value.text} is too large")
        raise BadValue
    return found


def _identity(walk: Walk, item: ast.Layer, entering: str) -> None:
    _refuse_times(walk, item)
    choose(item.options, "identity", walk.diagnostics)
    if item.label is not None:
        walk.names.labelled(item.label, "identity", walk.diagnostics)[1].layer = entering
    if item.assertion is not None:
        walk.read(entering, item.span)
        walk.check_shape(item, "identity")


def _refuse_times(walk: Walk, item: ast.Layer) -> None:
    if item.times is not None:
        walk.diagnostics.add(item.times.span, f"`{item.keyword.text}` can't be repeated")


# -- shortcuts ------------------------------------------------------------------------------------


def _shortcut(walk: Walk, item: ast.Layer, name: str, like: str) -> None:
    """``shortcut A|B|C`` of He et al. 2015; a projection takes bias and batch norm from ``CONV:``."""
    place = walk.place(item, name, item.keyword.span)
    _refuse_times(walk, item)
    chosen = choose(walk.substitution.options(item.options, "shortcut"), "shortcut", walk.diagnostics)
    option = chosen.get("option") if chosen else None
    if chosen is not None and option is None:
        hint = "A: every s-th pixel and zeros; B: a projection where shapes differ; C: always one"
        walk.diagnostics.add(item.keyword.span, "`shortcut` needs its option: A, B or C", hint)
    if option is None or walk.statements.defaults.broken & {"CONV", "BN"}:
        walk.fail(place)
        return
    defaults = walk.statements.defaults.chosen
    conv = defaults.get("CONV", {})
    bias = not ("bias" in conv and conv["bias"].name == "nobias")
    flag = "bn" in conv and conv["bn"].name == "bn"
    batch_norm = norm(defaults.get("BN", {}), walk.diagnostics) if flag else None
    walk.emit(ShortcutLayer(place, option.name, like, bias, batch_norm))


def _is_strided_copy(item: ast.Layer) -> bool:
    return any(option.name == "width" for option in item.options)


def lone_shortcut(walk: Walk, item: ast.Layer) -> None:
    """A shortcut as a statement of its own: ``shortcut A s=2 width=64``, the way ``expand`` writes option A."""
    _refuse_times(walk, item)
    for name, entry in walk.turns(item, "shortcut", item.keyword.span):
        entry.layer = name
        place = walk.place(item, name, item.keyword.span)
        try:
            chosen = choose(walk.substitution.options(item.options, "shortcut"), "shortcut", walk.diagnostics)
            walk.emit(_strided_copy(walk, item, place, chosen))
        except (BadValue, BadSettings):
            walk.fail(place)


def _strided_copy(walk: Walk, item: ast.Layer, place: Place, chosen: Chosen | None) -> StridedCopyLayer:
    if chosen is None:
        raise BadSettings
    width = chosen.get("width")
    if width is None or "option" not in chosen or chosen["option"].name != "A":
        hint = "alone it is written in full: `shortcut A s=2 width=64`"
        walk.diagnostics.add(item.keyword.span, "`shortcut` is the only statement of an arm of `add`", hint)
        raise BadSettings
    assert isinstance(width.value, (ast.Integer, ast.Name, ast.Binary, ast.Negative))
    channels = walk.substitution.integer(width.value, 1, "a width")
    stride = walk.statements.windows.step(chosen.get("stride"), "stride")
    if stride is None:
        raise BadSettings
    return StridedCopyLayer(place, stride, channels)
