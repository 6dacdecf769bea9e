"""Epilogue fusion: what follows a product, pool or gradient element by element runs in its kernel.

An anchor takes the longest chain of followers: each reads the chain's value in a slot its kernel can
serve (``epilogues.reason_against``), nobody else reads that value, and it is no output of the graph.
"""

from __future__ import annotations

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value
from cnnc.passes.epilogues import SYMMETRIC, reason_against
from cnnc.passes.rewrite import Rewriter


def fuse_epilogues(graph: Graph) -> Graph:
    """Chains become ``Fused`` nodes with the name of their last part, so values keep their names."""
    rewriter = Rewriter(graph)
    chains: dict[str, list[Node]] = {}  # by the name of the last part
    taken: set[str] = set()
    for node in graph.walk():
        if node.name in taken or isinstance(node.op, ops.LEAVES):
            continue
        chain = _chain(rewriter, node, taken)
        taken.update(part.name for part in chain)
        chains[chain[-1].name] = chain
    inner = {part.name for chain in chains.values() for part in chain[:-1]}
    for node in graph.walk():
        if node.name in inner:
            continue
        chain = chains.get(node.name, [node])
        if len(chain) == 1:
            rewriter.copy(node)
        else:
            _fuse(rewriter, chain)
    return rewriter.done()


def _chain(rewriter: Rewriter, anchor: Node, taken: set[str]) -> list[Node]:
    chain = [anchor]
    while True:
        follower = follower_of(rewriter, anchor, chain[-1])
        if isinstance(follower, str) or follower.name in taken:
            return chain
        chain.append(follower)


def follower_of(rewriter: Rewriter, anchor: Node, last: Node) -> Node | str:
    """The node that can join behind ``last``, or the reason why none can."""
    for index in range(1, len(last.types)):
        if rewriter.users.get(last.value(index)):
            return f"{last.value(index)} is read too"
    user = rewriter.single_user(last.value())
    if user is None:
        return f"{last.value()} has other users or is an output"
    node, slot = user
    if slot != 0 and not isinstance(node.op, SYMMETRIC):
        return f"{node.name} reads it as operand {slot}"
    reason = reason_against(anchor.op, node.op)
    if reason is not None:
        return reason
    if node.types[0].shape != last.types[0].shape:
        return f"{node.name} changes the shape"
    return node


def _fuse(rewriter: Rewriter, chain: list[Node]) -> None:
    operands: list[Value] = []
    for part, previous in zip(chain, [None, *chain], strict=False):
        operands.extend(v for v in part.operands if previous is None or v.node != previous.name)
    operands = list(dict.fromkeys(operands))
    numbers = {value: index for index, value in enumerate(operands)}
    parts: list[ops.Part] = []
    count = len(operands)
    for part in chain:
        parts.append(ops.Part(part.name, part.op, tuple(numbers[value] for value in part.operands), part.layer))
        for index in range(len(part.types)):
            numbers[part.value(index)] = count
            count += 1
    last, anchor = chain[-1], chain[0]
    op = ops.Fused(tuple(parts), (numbers[last.value()],))
    rewriter.new.add(
        last.name, op, [rewriter.get(value) for value in operands], layer=anchor.layer, span=anchor.span or last.span
    )
