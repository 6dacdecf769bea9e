"""Prologue fusion: a value made element by element is computed in the kernels that read it, instead of being stored.

Batch norm in training, its input gradient, an activation over a concatenation: nothing can compute them behind the
product before them, since sums over all rows come first or several values are read together. For each such value
the cheapest by the cost model of

- a kernel of its own, while readers that have its operands at hand compute it for themselves;
- every reader computes it, and it is never stored;
- one reader that comes by each element once computes and stores it on the way, the others read what it stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cnnc.ir.graph import Graph, Node
from cnnc.ir.roofline import Cost
from cnnc.passes.drafts import Drafts
from cnnc.passes.groups import Group, regrouped
from cnnc.passes.prologues import is_elementwise, reason_against, reason_against_storing


def fuse_prologues(graph: Graph) -> Graph:
    """Prologues of all kernels but of wide convolutions with several taps, which would compute them for each tap."""
    drafts = Drafts(graph)
    for node in graph.walk():
        if is_elementwise(node) and drafts.readers(node.value()):
            choice = _best(drafts, node)
            drafts.apply(choice.groups)
            if not choice.kept:
                drafts.drop(node)
    groups = drafts.changed()
    return regrouped(graph, groups) if groups else graph


@dataclass(frozen=True)
class Choice:
    """Readers' kernels that change, what all concerned cost then, and whether the value keeps a kernel of its own.

    Where a reader stores the value, the others that are ``waiting`` for it must not come before that reader.
    """

    groups: tuple[Group, ...]
    costs: tuple[Cost, ...]
    kept: bool = False
    storing: str = ""
    waiting: frozenset[str] = frozenset()

    @property
    def rank(self) -> tuple[float, int, int]:
        """Time first, in whole nanoseconds; then bytes; then kernels."""
        us = sum(cost.roofline_us for cost in self.costs)
        return round(us, 3), sum(cost.bytes for cost in self.costs), len(self.costs)


def _best(drafts: Drafts, node: Node) -> Choice:
    """The cheapest choice; of equal ones that which stores, since then the others need not compute."""
    readers = drafts.readers(node.value())
    able = {name: drafts.joined(name, node) for name in readers if refusal(drafts, node, name) is None}
    choices = [*_stored(drafts, node, able), *_never_stored(drafts, node, able), _kept(drafts, node, able)]
    choices.sort(key=lambda choice: choice.rank)
    return next(choice for choice in choices if too_early(drafts, node, choice.storing, choice.waiting) is None)


def refusal(drafts: Drafts, node: Node, reader: str) -> str | None:
    """Why a kernel can't compute an element-wise value that it reads; None if it can."""
    op, operands = drafts.body(reader)
    types = tuple(map(drafts.graph.type_of, operands))
    return reason_against(op, types, operands.index(node.value()))


def storing_refusal(drafts: Drafts, node: Node, reader: str) -> str | None:
    """Why a kernel that computes a value can't store it as well; None if it can."""
    op, operands = drafts.body(reader)
    types = tuple(map(drafts.graph.type_of, operands))
    return reason_against_storing(op, types, operands.index(node.value()))


def too_early(drafts: Drafts, node: Node, storing: str, waiting: frozenset[str]) -> str | None:
    """Why a reader can't store a value for those that wait for it: one of them must run before; None if it can."""
    first = drafts.first_before(storing, waiting) if waiting else None
    return None if first is None else f"{first} reads {node.value()} before {storing} runs"


def _kept(drafts: Drafts, node: Node, able: dict[str, Group]) -> Choice:
    costs, groups = [drafts.cost(drafts.group(node.name))], []
    for name in drafts.readers(node.value()):
        cost, group = _cheaper(drafts, name, able)
        costs.append(cost)
        groups.extend([group] if group else [])
    return Choice(tuple(groups), tuple(costs), kept=True)


def _cheaper(drafts: Drafts, name: str, able: dict[str, Group]) -> tuple[Cost, Group | None]:
    """A reader of a stored value computes it only if that takes less than to load it."""
    before = drafts.cost(drafts.group(name))
    if name in able:
        after = drafts.cost(able[name])
        if (after.roofline_us, after.bytes) < (before.roofline_us, before.bytes):
            return after, able[name]
    return before, None


def _never_stored(drafts: Drafts, node: Node, able: dict[str, Group]) -> Iterator[Choice]:
    """Every reader computes the value."""
    readers = drafts.readers(node.value())
    if drafts.stays(node) or len(able) < len(readers):
        return
    yield Choice(tuple(able.values()), tuple(drafts.cost(group) for group in able.values()))


def _stored(drafts: Drafts, node: Node, able: dict[str, Group]) -> Iterator[Choice]:
    """One reader computes and stores the value, the others load it or compute it too, whatever takes less."""
    value = node.value()
    if drafts.leaves_more(node):
        return
    for name, group in able.items():
        rest = {other: _cheaper(drafts, other, able) for other in drafts.readers(value) if other != name}
        waiting = frozenset(other for other, (_, computed) in rest.items() if computed is None)
        if not (waiting or drafts.is_output(value)) or storing_refusal(drafts, node, name) is not None:
            continue
        storing = Group(group.nodes, group.main, (*group.leaving, value))
        groups = (storing, *(computed for _, computed in rest.values() if computed))
        costs = (drafts.cost(storing), *(cost for cost, _ in rest.values()))
        yield Choice(groups, costs, storing=name, waiting=waiting)
