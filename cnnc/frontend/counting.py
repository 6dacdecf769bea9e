"""How large a program may become, from its text alone: what is surely small need not be counted first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cnnc.frontend import ast
from cnnc.frontend.expressions import literal
from cnnc.frontend.order import MAX_LAYERS

_MANY = MAX_LAYERS + 1


def may_be_large(program: ast.Program) -> bool:
    """Whether more layers than allowed can't be ruled out, for example where a parameter says how often."""
    sizes: dict[str, int] = {}
    for item in program.items:
        if isinstance(item, ast.Block):
            sizes[item.name.text] = _size(item.body, sizes)
    return _size(program.items, sizes) > MAX_LAYERS


def _size(body: Sequence[ast.Item], sizes: Mapping[str, int]) -> int:
    """At least the number of layers of a body, no more than one above the limit."""
    return min(_MANY, sum(_item_size(item, sizes) for item in body))


def _item_size(item: ast.Item, sizes: Mapping[str, int]) -> int:
    if isinstance(item, ast.Order):
        return sum(len(word.text) for word in item.words)
    if isinstance(item, ast.Head):
        return _size(item.body, sizes)
    if isinstance(item, ast.Repeat):
        return _turns(item) * (1 + _size(item.body, sizes))
    if isinstance(item, ast.Call):
        return _times(item.times) * (1 + sizes.get(item.name.text, _MANY))
    if isinstance(item, ast.Merge):
        return _times(item.times) * (2 + sum(1 + _size(arm.body, sizes) for arm in item.arms))
    return _times(item.times) if isinstance(item, ast.Layer) else 1


def _times(times: ast.Times | None) -> int:
    return _number(times.count) if times else 1


def _turns(item: ast.Repeat) -> int:
    if item.count is not None:
        return _number(item.count)
    assert item.low is not None and item.high is not None
    return _number(item.high) + 1 if isinstance(item.low, ast.Integer) else _MANY


def _number(value: ast.Expression) -> int:
    found = literal(value.text) if isinstance(value, ast.Integer) else None
    return _MANY if found is None else min(found, _MANY)
