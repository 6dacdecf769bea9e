"""Which values lie inside others, which can't and why, and the copies that this takes."""

from __future__ import annotations

import numpy as np
import pytest

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Value
from cnnc.ir.params import Arena
from cnnc.ir.printer import print_graph
from cnnc.ir.verify import verify
from cnnc.passes.buffers import Arenas, BufferTable
from cnnc.passes.place_concats import place_concats
from cnnc.passes.places import Place, Places, refusal
from cnnc.passes.rewrite import spec_of
from cnnc.runtime.oracle import evaluate
from cnnc.runtime.scalars import Scalars
from tests.passes.networks import Builder

X = Value("input")


def relus(net: Builder, *names: str) -> list[Value]:
    """Values of their own, computed from the input."""
    result = []
    for name in names:
        net.last = X
        result.append(net.op(name, ops.Activation("relu")))
    return result


def test_a_concatenation_lies_where_its_operands_are_written() -> None:
    """Nested: the inner one is the first slice of the outer."""
    net = Builder(4, 3, 5)
    a, b, c = relus(net, "a", "b", "c")
    net.last = a
    inner = net.op("inner", ops.Concat(), b)
    outer = net.op("outer", ops.Concat(), c)
    net.op("tanh", ops.Activation("tanh"))
    graph = net.done()
    places = Places(graph)
    assert [places.of(value) for value in (a, b, c, inner)] == [Place(outer, first) for first in (0, 5, 10, 0)]
    assert places.of(outer) == Place(outer)
    assert [places.is_view(graph[name]) for name in ("a", "inner", "outer")] == [False, True, True]
    assert print_graph(place_concats(graph)) == print_graph(graph)


def test_slices_are_read_where_they_lie() -> None:
    net = Builder(4, 3, 9)
    (x,) = relus(net, "x")
    left = net.op("slice", ops.ChannelSlice(2, 5))
    inner = net.op("inner", ops.ChannelSlice(1, 3))
    net.op("tanh", ops.Activation("tanh"))
    net.last = x
    net.op("split", ops.Split((4, 5)))
    net.graph.add("relu", ops.Activation("relu"), [Value("split", 1)])
    graph = net.done(output=Value("relu"), other=Value("tanh"))
    places = Places(graph)
    assert [places.of(value) for value in (left, inner)] == [Place(x, 2), Place(x, 3)]
    assert places.of(Value("split", 1)) == Place(x, 4)
    assert all(places.is_view(graph[name]) for name in ("slice", "inner", "split"))


def test_a_slice_that_is_an_output_is_copied() -> None:
    net = Builder(4, 3, 9)
    relus(net, "x")
    net.op("split", ops.Split((4, 5)))
    net.graph.add("relu", ops.Activation("relu"), [Value("split", 1)])
    graph = net.done(part=Value("split", 0), output=Value("relu"))
    places = Places(graph)
    assert not places.is_view(graph["split"])
    assert [places.is_computed(Value("split", index)) for index in range(2)] == [True, False]


def test_a_slice_goes_where_a_concatenation_wants_it() -> None:
    """By a copy: its own memory is somewhere else."""
    net = Builder(4, 3, 6)
    x, y = relus(net, "x", "y")
    net.last = x
    part = net.op("part", ops.ChannelSlice(0, 2))
    net.last = y
    whole = net.op("concat", ops.Concat(), part)
    net.op("tanh", ops.Activation("tanh"))
    graph = net.done()
    places = Places(graph)
    assert places.of(part) == Place(whole, 6)
    assert not places.is_view(graph["part"])
    assert places.is_view(graph["concat"])


def test_a_flattened_pixel_is_one_with_its_image_unless_both_are_given_out() -> None:
    net = Builder(1, 1, 5)
    (x,) = relus(net, "x")
    flat = net.op("flat", ops.Flatten())
    assert Places(net.done()).of(flat) == Place(x)
    assert Places(net.done(image=x, output=flat)).of(flat) == Place(flat)
    other = net.graph.add("other", ops.Flatten(), [x]).value()
    places = Places(net.done(output=flat, other=other))
    assert [places.of(flat), places.of(other)] == [Place(x), Place(other)]
    given = net.graph.add("given", ops.Flatten(), [X]).value()
    assert Places(net.done(output=given)).of(given) == Place(given)


def test_a_flattened_pixel_of_a_slice_is_no_output() -> None:
    net = Builder(1, 1, 5)
    a, b = relus(net, "a", "b")
    net.op("concat", ops.Concat(), a)
    tanh = net.op("tanh", ops.Activation("tanh"))
    flat = net.graph.add("flat", ops.Flatten(), [b]).value()
    assert Places(net.done(output=tanh, flat=flat)).of(flat) == Place(flat)


def reasons() -> tuple[Graph, list[str | None]]:
    net = Builder(4, 3, 5)
    a, b, c = relus(net, "a", "b", "c")
    net.last = a
    net.op("first", ops.Concat(), b)
    net.last = X
    second = net.op("second", ops.Concat(), a, c, c, b)
    net.last = second
    net.op("tanh", ops.Activation("tanh"))
    first = net.graph.add("last", ops.Activation("tanh"), [Value("first")]).value()
    graph = net.done(output=net.last, b=b, first=first)
    taken = {a: "first"}
    return graph, [refusal(graph, graph["second"], slot, taken) for slot in range(5)]


def test_refusals() -> None:
    _, found = reasons()
    assert found == [
        "%input is given",
        "%a lies in first",
        None,
        "%c is in it twice",
        "%b is an output, and those are dense",
    ]


def test_what_is_refused_is_copied_alone() -> None:
    graph, _ = reasons()
    assert not Places(graph).is_view(graph["second"])
    placed = verify(place_concats(graph))
    assert print_graph(placed).splitlines() == [
        "graph hand",
        "  %input = input() shape=(4,3,5) element=real : 4x3x5",
        "  %a = activation(%input) kind=relu alpha=0 : 4x3x5",
        "  %b = activation(%input) kind=relu alpha=0 : 4x3x5",
        "  %c = activation(%input) kind=relu alpha=0 : 4x3x5",
        "  %first.copy = identity(%b) : 4x3x5",
        "  %first = concat(%a, %first.copy) : 4x3x10",
        "  %second.copy = identity(%input) : 4x3x5",
        "  %second.copy.2 = identity(%a) : 4x3x5",
        "  %second.copy.3 = identity(%c) : 4x3x5",
        "  %second.copy.4 = identity(%b) : 4x3x5",
        "  %second = concat(%second.copy, %second.copy.2, %c, %second.copy.3, %second.copy.4) : 4x3x25",
        "  %tanh = activation(%second) kind=tanh alpha=0 : 4x3x25",
        "  %last = activation(%first) kind=tanh alpha=0 : 4x3x10",
        "  output = %tanh",
        "  b = %b",
        "  first = %last",
    ]
    places = Places(placed)
    assert places.is_view(placed["first"])
    assert places.is_view(placed["second"])
    x = {"input": np.random.default_rng(1).standard_normal((2, 4, 3, 5))}
    before, after = (evaluate(one, x, {}, scalars=Scalars(2)) for one in (graph, placed))
    for name, value in graph.outputs.items():
        np.testing.assert_array_equal(before[value], after[placed.outputs[name]])


def test_a_concatenation_of_nothing_but_copies_stays() -> None:
    net = Builder(4, 3, 5)
    net.op("concat", ops.Concat(), X)
    graph = net.done()
    assert print_graph(place_concats(graph)) == print_graph(graph)
    assert not Places(graph).is_view(graph["concat"])


@pytest.mark.parametrize("target", ["cpu", "sm_90"])
def test_buffers(target: str) -> None:
    """Slices have the layout of what they lie in: its halo, the stride of its pixels, its place."""
    net = Builder(4, 3, 5)
    a, b = relus(net, "a", "b")
    net.last = a
    net.op("concat", ops.Concat(), b)
    net.conv("conv", 2, 3, pad=1)
    graph = net.done()
    specs = [spec for node in graph.walk() if (spec := spec_of(node)) is not None]
    table = BufferTable(graph, Arenas(Arena(tuple(specs)), Arena(())), target, "float32")
    whole, left, right = (table.buffers[table.ids[Value(name)]] for name in ("concat", "a", "b"))
    assert (left.first, right.first, whole.first) == (0, 5, 0)
    assert left.within == right.within == whole.id
    assert left.strides == right.strides == whole.strides
    assert left.halo == right.halo == whole.halo == ((1, 1, 1, 1) if target == "cpu" else (0, 0, 0, 0))
    assert left.size == right.size == whole.size
    assert right.origin.at(1) == whole.origin.at(1) + 5
    assert [buffer.is_slice for buffer in (left, right, whole)] == [True, True, False]
