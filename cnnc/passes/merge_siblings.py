"""Products that read one value become one product: the input is read once, and one kernel runs instead of several.

Inception's three 1x1 convolutions of a module become one with all their filters: weights and biases below each
other (``ConcatRows``), and ``Split`` gives each sibling its channels. Equal followers (bias, batch norm, activation)
act on each channel alone, and so move to the merged value, batch statistics included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value
from cnnc.ir.params import ROW_ELEMENTS
from cnnc.ir.roofline import typical_us
from cnnc.ir.types import Element, TensorType
from cnnc.passes.epilogues import reason_against
from cnnc.passes.rewrite import AND, Rewriter, spec_of

# Ops of one channel each: what they read beside the image is one element per channel.
CHANNELWISE = (
    ops.BiasAdd,
    ops.BatchNorm,
    ops.BatchNormTrain,
    ops.Activation,
    ops.PRelu,
    ops.ChannelScale,
    ops.Scale,
)

Chain = tuple[Node, ...]  # a product and the followers that move with it
Group = tuple[Chain, ...]  # siblings, each with as many followers


def merge_siblings(graph: Graph) -> Graph:
    """Linear or Conv siblings of one value become one product and a Split, where the cost model says it pays."""
    rewriter = Rewriter(graph)
    groups = {group[0][0].name: group for group in _groups(rewriter)}
    absorbed = {node.name for group in groups.values() for chain in group for node in chain}
    for node in graph.walk():
        if node.name in groups:
            _merge(rewriter, groups[node.name])
        elif node.name not in absorbed and node.name not in rewriter.new:
            rewriter.copy(node)
    return rewriter.done()


def read_together(graph: Graph) -> tuple[tuple[str, ...], ...]:
    """Names of trained parameters that merging puts below each other; alike in their place in the arena, in one group.

    Where these lie together there, ``ConcatRows`` and the slices of its gradient move nothing.
    """
    merged = merge_siblings(graph)
    groups: list[tuple[str, ...]] = []
    taken: set[str] = set()
    for node in merged.walk():
        if isinstance(node.op, ops.ConcatRows):
            specs = [spec for value in node.operands if (spec := spec_of(merged[value.node])) and spec.trainable]
            names = tuple(spec.name for spec in specs)
            alike = len({(spec.decay, spec.clipped) for spec in specs}) == 1
            if alike and not taken & {*names} and len({*names}) == len(node.operands):
                groups.append(names)
                taken.update(names)
    return tuple(groups)


def refusal(rewriter: Rewriter, node: Node) -> str | None:
    """Why a node can't be merged with siblings, if it has any; None if it can."""
    if not isinstance(node.op, ops.Linear | ops.Conv):
        return "not a product"
    if isinstance(node.op, ops.Conv) and node.op.groups != 1:
        return f"it has {node.op.groups} groups"
    weight = rewriter.old[node.operands[1].node]
    if isinstance(weight.op, ops.FoldScale):
        weight = rewriter.old[weight.operands[0].node]
    if not isinstance(weight.op, ops.Parameter):
        return f"its weight is no parameter but made by {weight.op.name}"
    if not rewriter.users.get(node.value()):
        return "nothing reads it"
    return None


def _groups(rewriter: Rewriter) -> list[Group]:
    """Siblings that are worth merging, each once."""
    families: dict[tuple[object, ...], list[Node]] = {}
    for node in rewriter.old.walk():
        if refusal(rewriter, node) is None:
            weight = rewriter.old.type_of(node.operands[1])
            key = (node.operands[0], node.op, weight.element, weight.shape[1:])
            families.setdefault(key, []).append(node)
    found = []
    for siblings in families.values():
        found += best_groups(rewriter, siblings)
    return found


def best_groups(rewriter: Rewriter, siblings: Sequence[Node]) -> list[Group]:
    """The cheaper of two ways to merge siblings: all as far as all agree, or those that agree to the end."""
    chains = [_chain(rewriter, node) for node in siblings]
    alike: dict[tuple[ops.Op, ...], list[Chain]] = {}
    for chain in chains:
        alike.setdefault(tuple(node.op for node in chain), []).append(chain)
    choices = [[_cut(chains)], [_cut(same) for same in alike.values()]]
    useful = [[group for group in choice if gain_us(rewriter, group) > 0] for choice in choices]
    return max(useful, key=lambda groups: sum(gain_us(rewriter, group) for group in groups))


def _chain(rewriter: Rewriter, main: Node) -> Chain:
    """A product and the channelwise ops behind it that nobody else sees the operand of."""
    chain = [main]
    while (follower := _follower(rewriter, chain[-1])) is not None:
        chain.append(follower)
    return tuple(chain)


def _follower(rewriter: Rewriter, node: Node) -> Node | None:
    user = rewriter.single_user(node.value())
    if user is None or user[1] != 0 or not isinstance(user[0].op, CHANNELWISE):
        return None
    vectors = [rewriter.old[value.node] for value in user[0].operands[1:]]
    known = all(isinstance(vector.op, ops.Parameter | ops.FoldShift) for vector in vectors)
    return user[0] if known and rewriter.users.get(user[0].value()) else None


def _cut(chains: Sequence[Chain]) -> Group:
    """The siblings, each as far as all of them agree."""
    length = 0
    for column in zip(*chains, strict=False):
        if any(node.op != column[0].op for node in column):
            break
        length += 1
    return tuple(chain[:length] for chain in chains)


def gain_us(rewriter: Rewriter, group: Group) -> float:
    """Microseconds that merging saves in the forward pass, less those that its copies take; not above 0 if none.

    Training copies weights that can't lie together, and their gradients; inference does it once. A follower that stays
    behind can't run in the product's kernel any more: the value between them is written and read.
    """
    if len(group) < 2 or any(chain[-1].value() in rewriter.outputs for chain in group):
        return 0.0
    types = rewriter.old.type_of
    main = group[0][0]
    x, weights = types(main.operands[0]), [types(chain[0].operands[1]) for chain in group]
    (merged,) = ops.ConcatRows().infer(*weights)
    saved = sum(typical_us(main.op, [x, weight]) for weight in weights) - typical_us(main.op, [x, merged])
    behind = [types(chain[0].value()) for chain in group if _leaves_fused(rewriter, chain)]
    return saved - _copying_us(weights) - sum(typical_us(ops.Identity(), [y]) for y in behind)


def _copying_us(weights: Sequence[TensorType]) -> float:
    """What it takes to put weights below each other, and their gradients apart; nothing if they can lie together."""
    if all(weight.count % ROW_ELEMENTS == 0 for weight in weights[:-1]):
        return 0.0
    gradients = [replace(weight, element=Element.ACC) for weight in weights]
    return typical_us(ops.ConcatRows(), weights) + typical_us(ops.ConcatRows(), gradients)


def _leaves_fused(rewriter: Rewriter, chain: Chain) -> bool:
    """Whether what follows a chain would have run in its product's kernel."""
    user = rewriter.single_user(chain[-1].value())
    return user is not None and reason_against(chain[0].op, user[0].op) is None


def _merge(rewriter: Rewriter, group: Group) -> None:
    counts = tuple(chain[0].types[0].shape[-1] for chain in group)
    value = rewriter.get(group[0][0].operands[0])
    for column in zip(*group, strict=True):
        rows = [_below_each_other(rewriter, column, slot) for slot in range(1, len(column[0].operands))]
        merged = _add(rewriter, column, "merged", column[0].op, [value, *rows])
        for index in range(1, len(merged.types)):
            _slice_statistics(rewriter, column, merged, index)
        value = merged.value()
    ends = tuple(chain[-1] for chain in group)
    split = _add(rewriter, ends, "split", ops.Split(counts), [value])
    for index, end in enumerate(ends):
        rewriter.replace(end.value(), split.value(index))


def _add(rewriter: Rewriter, column: Chain, suffix: str, op: ops.Op, operands: list[Value]) -> Node:
    """A node that belongs to the layers of all siblings."""
    layer = AND.join(dict.fromkeys(node.layer for node in column if node.layer))
    name = rewriter.new.fresh(f"{column[0].name}.{suffix}")
    return rewriter.new.add(name, op, operands, layer=layer, span=column[0].span)


def _below_each_other(rewriter: Rewriter, column: Chain, slot: int) -> Value:
    """One operand of each sibling as one array. Parameters may come late in the program: all are known from here on."""
    values = [_hoisted(rewriter, node.operands[slot]) for node in column]
    return _add(rewriter, column, f"rows{slot}", ops.ConcatRows(), values).value()


def _hoisted(rewriter: Rewriter, value: Value) -> Value:
    node = rewriter.old[value.node]
    if node.name not in rewriter.new:
        for operand in node.operands:
            _hoisted(rewriter, operand)
        rewriter.copy(node)
    return rewriter.get(value)


def _slice_statistics(rewriter: Rewriter, column: Chain, merged: Node, index: int) -> None:
    """Each sibling's part of the batch's mean or variance, for its running statistics."""
    start = 0
    for node in column:
        count = node.types[index].shape[0]
        if rewriter.users.get(node.value(index)):
            own = ops.RowSlice(start, count)
            rows = rewriter.add(f"{node.name}.statistic{index}", own, [merged.value(index)], node)
            rewriter.replace(node.value(index), rows.value())
        start += count
