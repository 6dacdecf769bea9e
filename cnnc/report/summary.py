"""The paper's table: for each layer its output, parameters, multiply-adds and memory; totals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from cnnc.ir import ops
from cnnc.ir.cost import macs
from cnnc.ir.graph import Node
from cnnc.ir.model import Model
from cnnc.ir.types import format_shape

BYTES_PER_VALUE = 4  # float32

# How tables call the op that a layer is named for; the first of its nodes that is listed here decides.
OP_NAMES: dict[type[ops.Op], str] = {
    ops.Conv: "conv",
    ops.Linear: "dense",
    ops.MaxPool: "pool",
    ops.AvgPool: "pool",
    ops.GlobalAvgPool: "global_avg_pool",
    ops.BatchNorm: "batch_norm",
    ops.Activation: "activation",
    ops.Dropout: "dropout",
    ops.Flatten: "flatten",
    ops.Softmax: "softmax",
}

# Outputs that are stored; every other layer works in place (the rule of VGG's memory table).
STORED = ("conv", "dense", "pool", "global_avg_pool")


@dataclass(frozen=True)
class Row:
    """One layer. ``params`` are trainable, ``non_trainable`` moving statistics; MACs and bytes are per image."""

    name: str
    op: str
    output: tuple[int, ...]
    params: int
    non_trainable: int
    macs: int
    activation_bytes: int


@dataclass(frozen=True)
class Summary:
    """All layers in program order. The total of ``activation_bytes`` counts the input as well."""

    name: str
    input: tuple[int, ...]
    rows: tuple[Row, ...]

    @property
    def trainable(self) -> int:
        return sum(row.params for row in self.rows)

    @property
    def non_trainable(self) -> int:
        return sum(row.non_trainable for row in self.rows)

    @property
    def macs(self) -> int:
        return sum(row.macs for row in self.rows)

    @property
    def activation_bytes(self) -> int:
        return BYTES_PER_VALUE * math.prod(self.input) + sum(row.activation_bytes for row in self.rows)


def summarize(model: Model) -> Summary:
    """The table of a model's forward graph."""
    layers: dict[str, list[Node]] = {}
    for node in model.graph.walk():
        if not isinstance(node.op, ops.Input):
            layers.setdefault(node.layer, []).append(node)
    rows = tuple(_row(name, nodes, model) for name, nodes in layers.items())
    return Summary(model.name, model.input_shape, rows)


def _row(name: str, nodes: list[Node], model: Model) -> Row:
    specs = [node.op.spec for node in nodes if isinstance(node.op, ops.Parameter)]
    computed = [node for node in nodes if not isinstance(node.op, ops.Parameter)]
    op = OP_NAMES[next(type(node.op) for node in computed if type(node.op) in OP_NAMES)]
    output = computed[-1].types[0]
    return Row(
        name,
        op,
        output.shape,
        sum(spec.count for spec in specs if spec.trainable),
        sum(spec.count for spec in specs if not spec.trainable),
        sum(macs(node.op, tuple(map(model.graph.type_of, node.operands)), node.types) for node in computed),
        BYTES_PER_VALUE * output.count if op in STORED else 0,
    )


def summary_json(model: Model) -> dict[str, Any]:
    """The table as plain data: ``name``, ``input``, ``layers``, ``totals``."""
    summary = summarize(model)
    layers = [
        {
            "name": row.name,
            "op": row.op,
            "output": list(row.output),
            "params": row.params,
            "macs": row.macs,
            "activation_bytes": row.activation_bytes,
        }
        for row in summary.rows
    ]
    totals = {
        "trainable": summary.trainable,
        "non_trainable": summary.non_trainable,
        "macs": summary.macs,
        "activation_bytes": summary.activation_bytes,
    }
    return {"name": summary.name, "input": list(summary.input), "layers": layers, "totals": totals}


def print_table(model: Model, console: Console) -> None:
    """Print the table with its totals."""
    summary = summarize(model)
    table = Table(title=f"{summary.name}, input {format_shape(summary.input)}", show_footer=True)
    table.add_column("layer", footer="total", no_wrap=True)
    table.add_column("op")
    table.add_column("output", justify="right")
    for title, total in (
        ("params", summary.trainable),
        ("MACs", summary.macs),
        ("activation bytes", summary.activation_bytes),
    ):
        table.add_column(title, footer=f"{total:,}", justify="right", no_wrap=True)
    for row in summary.rows:
        counts = (row.params, row.macs, row.activation_bytes)
        table.add_row(row.name, row.op, format_shape(row.output), *(f"{count:,}" if count else "" for count in counts))
    console.print(table)
    if summary.non_trainable:
        console.print(f"{summary.non_trainable:,} moving statistics, not trainable")
