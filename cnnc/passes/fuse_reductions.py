"""Sums over rows in the kernels that make what they sum.

Batch norm's statistics run where their image is made, with what the running ones become; its gradient's reductions, and
the sums that are biases' gradients, where the gradient is made. The image is then not read again, and several sums of
one image are one kernel. Where no kernel can take a sum, those of one image still share a kernel. The mean over a batch
follows the losses of its images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value
from cnnc.ir.types import TensorType
from cnnc.passes.groups import Group, anchor_of, parts_of, regrouped
from cnnc.passes.nests import ROW_SUMS, tile_shape
from cnnc.passes.prologues import ELEMENTWISE
from cnnc.passes.rewrite import Rewriter

# Kernels of tiles of rows and channels, whose programs can walk over rows.
WALKING: tuple[type[ops.Op], ...] = (
    ops.Conv,
    ops.ConvDgrad,
    ops.Linear,
    ops.LinearDgrad,
    ops.MaxPool,
    ops.MaxPoolGrad,
    ops.AvgPool,
    ops.AvgPoolGrad,
    ops.SumPool,
    ops.SumPoolGrad,
    ops.GlobalAvgPool,
    ops.GlobalAvgPoolGrad,
    *ELEMENTWISE,
    *ROW_SUMS,
)
UPDATES = 16  # of batch norms, in one kernel


def fuse_reductions(graph: Graph) -> Graph:
    """Each sum over rows joins the product or pool that makes its operand, or the first one that sums the same value.

    Element-wise kernels wait: their values may never be stored (``fuse_prologues``).
    """
    return _fused(graph, late=False)


def fuse_late_reductions(graph: Graph) -> Graph:
    """Sums join the element-wise kernels that are left, and each other."""
    return _fused(graph, late=True)


def _fused(graph: Graph, *, late: bool) -> Graph:
    rewriter = Rewriter(graph)
    hosts: dict[str, str] = {}  # of each node that joins another's kernel, the name of that one
    for node in graph.walk():
        host = _host(rewriter, node, hosts, late)
        if host is not None:
            hosts[node.name] = host
    members: dict[str, list[Node]] = {}
    for name, host in hosts.items():
        members.setdefault(host, [graph[host]]).append(graph[name])
    groups = [Group(tuple(nodes), host, tuple(_leaving(rewriter, nodes))) for host, nodes in members.items()]
    if late:
        groups.extend(_updates(rewriter, hosts))
    return regrouped(graph, groups) if groups else graph


def _updates(rewriter: Rewriter, hosts: Mapping[str, str]) -> Iterator[Group]:
    """Updates that join no sum, several to a kernel: that runs where the last of them did."""
    alone = [
        node
        for node in rewriter.old.walk()
        if isinstance(node.op, ops.BatchNormUpdate)
        and node.name not in hosts
        and rewriter.users.keys().isdisjoint(map(node.value, range(2)))
    ]
    for several in (tuple(alone[first : first + UPDATES]) for first in range(0, len(alone), UPDATES)):
        if len(several) > 1:
            yield Group(several, several[0].name, tuple(_leaving(rewriter, several)))


def refusal(graph: Graph, node: Node, *, late: bool = True) -> str | None:
    """Why a sum over rows does not join the kernel of its operand; None if it does."""
    value = node.operands[0]
    host = graph[value.node]
    if not late and isinstance(anchor_of(host.op), ELEMENTWISE):
        return f"{host.name} may be computed where it is read"
    if not isinstance(anchor_of(host.op), WALKING):
        return f"the programs of {host.name} do not walk over rows"
    types = tuple(graph.type_of(operand) for operand in host.operands)
    parts, results, main = parts_of(host)
    made = _maker(parts, types, results[value.index])
    if made is None or made < main or graph.type_of(value).shape != tile_shape(host.op, types):
        return f"{value} is no tile of {host.name}"
    if isinstance(parts[made].op, ops.Split):
        return f"{value} is a part of the tile of {host.name}"
    return _late(graph, node, host.name)


def _host(rewriter: Rewriter, node: Node, hosts: Mapping[str, str], late: bool) -> str | None:
    """The kernel that a node joins."""
    graph = rewriter.old
    if isinstance(node.op, ops.BatchNormUpdate):
        source = node.operands[2].node
        host = hosts.get(source, source)
        follows = isinstance(graph[source].op, ops.BatchNormStats) and node.operands[3].node == source
        return host if follows and _late(graph, node, host, source) is None else None
    if isinstance(node.op, ops.BatchMean):
        return _host_of_mean(graph, node)
    if type(node.op) not in ROW_SUMS:
        return None
    if refusal(graph, node, late=late) is None:
        return node.operands[0].node
    if not late:
        return None
    others = (user for user, slot in rewriter.users[node.operands[0]] if slot == 0 and type(user.op) in ROW_SUMS)
    first = min(others, key=lambda user: graph.position(user.name))
    together = first.name != node.name and first.name not in hosts and _late(graph, node, first.name) is None
    return first.name if together else None


def _host_of_mean(graph: Graph, node: Node) -> str | None:
    """The kernel of the losses that a mean is of, where one program can add them up: one for each image."""
    loss = graph[node.operands[0].node]
    if len(node.operands) > 1 or not isinstance(loss.op, ops.CrossEntropy):
        return None
    return loss.name if graph.type_of(loss.operands[1]).count == 1 else None


def _late(graph: Graph, node: Node, host: str, *inside: str) -> str | None:
    """The reason if a node reads what may not be there when its host runs.

    All that a kernel reads is older than its host: so kernels can't wait for each other.
    """
    for value in node.operands:
        given = value.node in (host, *inside) or isinstance(graph[value.node].op, ops.LEAVES)
        if not given and graph.position(value.node) > graph.position(host):
            return f"{node.name} reads {value}, which is younger than {host}"
    return None


def _maker(parts: tuple[ops.Part, ...], types: tuple[TensorType, ...], number: int) -> int | None:
    """The place of the part that makes a value of a body; None for an operand."""
    values = list(types)
    for place, part in enumerate(parts):
        values.extend(part.op.infer(*(values[i] for i in part.operands)))
        if len(types) <= number < len(values):
            return place
    return None


def _leaving(rewriter: Rewriter, nodes: Sequence[Node]) -> Iterator[Value]:
    """Values that are outputs, or that others than the group's own nodes read."""
    inside = {node.name for node in nodes}
    for node in nodes:
        for value in map(node.value, range(len(node.types))):
            read = any(user.name not in inside for user, _ in rewriter.users.get(value, ()))
            if read or value in rewriter.outputs:
                yield value
