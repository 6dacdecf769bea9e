"""Programs of one layer and what becomes of them, for the tests of layers."""

from __future__ import annotations

import pytest

from cnnc.errors import ProgramError
from cnnc.frontend import expand, load
from cnnc.ir import ops
from cnnc.ir.graph import Node
from cnnc.ir.model import Model
from cnnc.ir.params import ParamSpec
from cnnc.ir.printer import print_graph
from cnnc.ir.verify import verify
from cnnc.source import Source

IMAGE, SEQUENCE, VECTOR = "8x8x4", "16x4", "12"


def model_of(body: str, shape: str = IMAGE) -> Model:
    """The model of these statements; what ``expand`` prints of it has the same graph."""
    model = load(Source("t", f"input {shape}\n{body}"))
    verify(model.graph)
    again = load(Source("expanded", expand(model)))
    assert print_graph(again.graph) == print_graph(model.graph)
    assert again.params() == model.params()
    assert again.heads == model.heads
    return model


def nodes_of(model: Model) -> list[str]:
    """What is computed, in order: ``name op``; leaves left out."""
    leaves = (ops.Input, ops.Parameter)
    return [f"{node.name} {node.op.name}" for node in model.graph.walk() if not isinstance(node.op, leaves)]


def node_of(body: str, name: str, shape: str = IMAGE) -> Node:
    return model_of(body, shape).graph[name]


def specs_of(body: str, shape: str = IMAGE) -> dict[str, ParamSpec]:
    return {spec.name: spec for spec in model_of(body, shape).params()}


def output_of(body: str, shape: str = IMAGE) -> tuple[int, ...]:
    """The output's shape as the program writes it."""
    return model_of(body, shape).output_shape


def expanded(body: str, shape: str = IMAGE) -> list[str]:
    """The statements that ``expand`` prints, without columns."""
    text = expand(load(Source("t", f"input {shape}\n{body}")))
    return [" ".join(line.split()) for line in text.splitlines()[3:]]


def error_of(body: str, shape: str = IMAGE) -> tuple[str, str, str]:
    """Message, what it points at, and hint of the one error in these statements."""
    with pytest.raises(ProgramError) as caught:
        load(Source("t", f"input {shape}\n{body}"))
    (found,) = caught.value.diagnostics
    return found.message, found.span.text, found.hint or ""
