"""The graph: order, operand slots, verification, printing."""

import pytest

from cnnc.errors import ShapeError
from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value
from cnnc.ir.printer import print_graph
from cnnc.ir.types import TensorType
from cnnc.ir.verify import InvalidGraph, verify


def doubled() -> Graph:
    graph = Graph("doubled")
    x = graph.add("input", ops.Input((2, 3, 5))).value()
    graph.outputs["output"] = graph.add("sum", ops.Add(), [x, x], layer="sum").value()
    return graph


def test_an_operand_read_twice_is_two_edges():
    graph = doubled()
    assert graph.users()[Value("input")] == [(graph["sum"], 0), (graph["sum"], 1)]
    assert sorted(graph.networkx().edges(keys=True)) == [("input", "sum", 0), ("input", "sum", 1)]


def test_printed_graph():
    assert print_graph(doubled()) == (
        "graph doubled\n"
        "  %input = input() shape=(2,3,5) element=real : 2x3x5\n"
        "  %sum = add(%input, %input) : 2x3x5\n"
        "  output = %sum\n"
    )


def test_walk_is_topological_and_by_insertion():
    graph = Graph()
    for name in "bca":
        graph.add(name, ops.Input((4,)))
    graph.add("z", ops.Add(), [Value("a"), Value("b")])
    assert [node.name for node in graph.walk()] == ["b", "c", "a", "z"]


def test_shape_rules_run_when_a_node_is_added():
    graph = Graph()
    a, b = graph.add("a", ops.Input((2, 2, 3))), graph.add("b", ops.Input((2, 2, 4)))
    with pytest.raises(ShapeError, match="2x2x3 and 2x2x4"):
        graph.add("sum", ops.Add(), [a.value(), b.value()])


def test_names_are_unique():
    graph = doubled()
    with pytest.raises(ValueError, match="named sum exists"):
        graph.add("sum", ops.Input((1,)))
    assert graph.fresh("sum") == "sum.2"


def test_the_view_for_users_cannot_change_the_graph():
    with pytest.raises(Exception, match="Frozen"):
        doubled().networkx().add_node("more")


def test_verifier_finds_a_wrong_type_and_a_missing_output():
    graph = doubled()
    node = graph["sum"]
    graph._nodes["sum"] = Node(node.name, node.op, node.operands, (TensorType((9,)),))
    with pytest.raises(InvalidGraph, match="after broken"):
        verify(graph, "broken")
    graph = doubled()
    graph.outputs["loss"] = Value("nowhere")
    with pytest.raises(InvalidGraph, match="output loss"):
        verify(graph)
