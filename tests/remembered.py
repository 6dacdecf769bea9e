"""Many pipelines of one network, and what their graphs compute, with what they have in common done once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps

import numpy as np
import pytest

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value
from cnnc.ir.printer import print_graph
from cnnc.ir.types import Element
from cnnc.passes import pipelines
from cnnc.passes.pipelines import Pass
from cnnc.runtime.arrays import Array, to_stored
from cnnc.runtime.oracle import evaluate_op
from cnnc.runtime.scalars import Scalars


def remember_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on a pass that gets a graph which it had before gives the graph that it gave then; graphs that print
    alike are the same object.
    """
    graphs: dict[str, Graph] = {}  # which also keeps them, so that no two have one id
    ids: set[int] = set()
    checked: set[int] = set()
    really_verify = pipelines.verify

    def one(graph: Graph) -> Graph:
        if id(graph) in ids:
            return graph
        found = graphs.setdefault(print_graph(graph), graph)
        ids.add(id(found))
        return found

    def remembered(step: Pass) -> Pass:
        made: dict[int, Graph] = {}

        @wraps(step)
        def run(graph: Graph) -> Graph:
            graph = one(graph)
            if id(graph) not in made:
                made[id(graph)] = one(step(graph))
            return made[id(graph)]

        return run

    def verify(graph: Graph, after: str) -> Graph:
        if id(graph) not in checked:
            really_verify(graph, after)
            checked.add(id(graph))
        return graph

    steps = {step: remembered(step) for passes in pipelines.PIPELINES.values() for step in passes}
    changed = {variant: tuple(steps[step] for step in passes) for variant, passes in pipelines.PIPELINES.items()}
    monkeypatch.setattr(pipelines, "PIPELINES", changed)
    monkeypatch.setattr(pipelines, "TRIED", tuple(steps[step] for step in pipelines.TRIED))
    monkeypatch.setattr(pipelines, "verify", verify)


class Values:
    """The oracle over many graphs: an op, or a part of a fused one, on operands that it had before is not run again."""

    def __init__(self, inputs: Mapping[str, Array], params: Mapping[str, Array], scalars: Scalars) -> None:
        self.inputs, self.params, self.scalars = inputs, params, scalars
        self.arrays: list[Array] = []
        self.known: dict[tuple[object, ...], tuple[int, ...]] = {}

    def of(self, graph: Graph) -> dict[Value, Array]:
        """Every value of a graph."""
        numbers: dict[Value, int] = {}
        for node in graph.walk():
            made = self._node(node, [numbers[value] for value in node.operands])
            numbers.update({node.value(i): number for i, number in enumerate(made)})
        return {value: self.arrays[number] for value, number in numbers.items()}

    def _node(self, node: Node, operands: Sequence[int]) -> tuple[int, ...]:
        if isinstance(node.op, ops.Input):
            given = np.asarray(self.inputs[node.name])
            real = node.op.element in (Element.REAL, Element.ACC)
            return self._keep((node.op, node.name), (), lambda: (given.astype(np.float64 if real else np.int64),))
        if isinstance(node.op, ops.Parameter):
            spec = node.op.spec
            return self._keep((node.op,), (), lambda: (to_stored(spec, self.params[spec.name]).astype(np.float64),))
        return self._op(node.op, operands)

    def _op(self, op: ops.Op, operands: Sequence[int]) -> tuple[int, ...]:
        if not isinstance(op, ops.Fused):
            return self._keep(
                (op,), operands, lambda: evaluate_op(op, [self.arrays[i] for i in operands], self.scalars)
            )
        values = list(operands)
        for part in op.parts:
            values.extend(self._op(part.op, [values[i] for i in part.operands]))
        return tuple(values[i] for i in op.results)

    def _keep(
        self, what: tuple[object, ...], operands: Sequence[int], run: Callable[[], tuple[Array, ...]]
    ) -> tuple[int, ...]:
        key = (*what, *operands)
        if key not in self.known:
            made = run()
            self.known[key] = tuple(range(len(self.arrays), len(self.arrays) + len(made)))
            self.arrays.extend(made)
        return self.known[key]
