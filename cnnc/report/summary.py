"""The paper's table: for each layer its output, receptive field, parameters, multiply-adds and memory; totals."""

from __future__ import annotations

import math
import re
import textwrap
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from cnnc.ir import ops
from cnnc.ir.cost import layer_macs, weight_counts
from cnnc.ir.graph import Graph
from cnnc.ir.model import Model
from cnnc.ir.types import format_shape
from cnnc.report.advice import Advice, advise
from cnnc.report.layers import STORED, Layer, is_constant, layers_of
from cnnc.report.receptive import Field, receptive_fields

BYTES_PER_VALUE = 4  # float32
MIB = 2**20
OP_WIDTH = 10  # of a narrow table: all but the rarest fit
UNBOUNDED = 10_000  # columns; no table needs as many
TIE = "\N{NO-BREAK SPACE}"  # textwrap breaks at plain spaces alone


@dataclass(frozen=True)
class Row:
    """One layer. ``params`` are its weights, biases, gamma and beta, of which ``fixed`` are not trained (codes,
    bilinear kernels); ``statistics`` are batch norm's moving ones. MACs and bytes are per image.
    ``receptive_field`` is in pixels of the input; vectors, which see all of it, have none.
    """

    name: str
    op: str
    output: tuple[int, ...]
    receptive_field: tuple[int, ...] | None
    params: int
    fixed: int
    statistics: int
    macs: int
    activation_bytes: int


@dataclass(frozen=True)
class Summary:
    """All layers in program order. The total of ``activation_bytes`` counts the input as well."""

    name: str
    input: tuple[int, ...]
    rows: tuple[Row, ...]
    advice: tuple[Advice, ...]

    @property
    def trainable(self) -> int:
        return sum(row.params - row.fixed for row in self.rows)

    @property
    def fixed(self) -> int:
        return sum(row.fixed for row in self.rows)

    @property
    def non_trainable(self) -> int:
        """Moving statistics; fixed weights are counted apart."""
        return sum(row.statistics for row in self.rows)

    @property
    def macs(self) -> int:
        return sum(row.macs for row in self.rows)

    @property
    def activation_bytes(self) -> int:
        return BYTES_PER_VALUE * math.prod(self.input) + sum(row.activation_bytes for row in self.rows)

    @property
    def training_activation_bytes(self) -> int:
        """Values for the backward pass beside those of the forward pass: the lectures' rule of thumb."""
        return 2 * self.activation_bytes


def summarize(model: Model, *, train: bool = False) -> Summary:
    """The table of a model's forward graph; training heads count with ``train`` alone."""
    layers = layers_of(model, train=train)
    fields = receptive_fields(model.graph)
    counts = weight_counts(model.graph)
    statistics = _statistics(model.graph)
    rows = tuple(_row(layer, model, fields, counts, statistics) for layer in layers)
    return Summary(
        model.name, model.shown(model.input_shape), rows, advise(model, layers, sum(row.macs for row in rows))
    )


def _row(layer: Layer, model: Model, fields: dict[Any, Field], counts: dict[str, int], statistics: set[str]) -> Row:
    graph = model.graph
    listed = [node for node in layer.parameters if not is_constant(node)]
    weights = [node for node in listed if node.name not in statistics]
    stored = [node for node in layer.computed if isinstance(node.op, STORED) and not _reads_constant(graph, node)]
    field = fields.get(layer.output)
    return Row(
        name=layer.name,
        op=layer.op,
        output=model.shown(graph.type_of(layer.output).shape),
        receptive_field=None if field is None else field.pixels[: 1 if model.sequence else 2],
        params=sum(counts[node.name] for node in weights),
        fixed=sum(counts[node.name] for node in weights if not _trainable(node.op)),
        statistics=sum(counts[node.name] for node in listed if node.name in statistics),
        macs=sum(layer_macs(graph, node) for node in layer.computed),
        activation_bytes=BYTES_PER_VALUE * sum(node.types[0].count for node in stored),
    )


def _statistics(graph: Graph) -> set[str]:
    """Nodes that are the moving mean and variance of a batch norm."""
    return {value.node for node in graph.walk() if isinstance(node.op, ops.BatchNorm) for value in node.operands[3:]}


def _trainable(op: ops.Op) -> bool:
    return isinstance(op, ops.Parameter) and op.spec.trainable


def _reads_constant(graph: Graph, node: Any) -> bool:
    """Whether a product is with an op's own constant, a step on the way to the layer's value."""
    return any(is_constant(graph[value.node]) for value in node.operands)


def summary_json(model: Model, *, train: bool = False) -> dict[str, Any]:
    """The table as plain data: ``name``, ``input``, ``layers``, ``totals``, ``advice``."""
    summary = summarize(model, train=train)
    layers = [
        {
            "name": row.name,
            "op": row.op,
            "output": list(row.output),
            "params": row.params,
            "macs": row.macs,
            "activation_bytes": row.activation_bytes,
            "receptive_field": None if row.receptive_field is None else list(row.receptive_field),
        }
        for row in summary.rows
    ]
    totals = {
        "trainable": summary.trainable,
        "non_trainable": summary.non_trainable,
        "fixed": summary.fixed,
        "macs": summary.macs,
        "activation_bytes": summary.activation_bytes,
    }
    advice = [item.json() for item in summary.advice]
    return {
        "name": summary.name,
        "input": list(summary.input),
        "layers": layers,
        "totals": totals,
        "training_activation_bytes": summary.training_activation_bytes,
        "advice": advice,
    }


def print_table(model: Model, console: Console, *, train: bool = False) -> None:
    """Print the table with its totals, what is not trained, the memory for training, and advice."""
    summary = summarize(model, train=train)
    table = _table(summary)
    room = console.options.update_width(UNBOUNDED)
    if Measurement.get(console, room, table).maximum > console.width:
        table = _table(summary, narrow=True)
    console.print(table)
    for line in _remarks(summary):
        console.print(Text(_wrapped(line, console.width)), soft_wrap=True)


def _table(summary: Summary, *, narrow: bool = False) -> Table:
    """The rows and totals; ``narrow`` without borders, and names broken before numbers are."""
    table = Table(title=f"{summary.name}, input {format_shape(summary.input)}", show_footer=True)
    if narrow:
        table.box, table.show_edge, table.padding = box.SIMPLE, False, (0, 0)
    table.add_column("layer", footer="total", no_wrap=not narrow, overflow="fold")
    table.add_column("op", no_wrap=not narrow, max_width=OP_WIDTH if narrow else None, overflow="fold")
    table.add_column("output", justify="right", no_wrap=True)
    table.add_column("sees", justify="right", no_wrap=True)
    for title, total in (
        ("params", f"{summary.trainable:,}"),
        ("MACs", f"{summary.macs:,}"),
        ("memory\nMiB" if narrow else "memory MiB", _mib(summary.activation_bytes)),
    ):
        table.add_column(title, footer=total, justify="right", no_wrap=True)
    for row in summary.rows:
        sees = "" if row.receptive_field is None else format_shape(row.receptive_field)
        counts = (f"{count:,}" if count else "" for count in (row.params, row.macs))
        mib = _mib(row.activation_bytes) if row.activation_bytes else ""
        table.add_row(row.name, row.op, format_shape(row.output), sees, *counts, mib)
    return table


def _remarks(summary: Summary) -> list[str]:
    lines = []
    if summary.fixed:
        lines.append(f"{summary.fixed:,} of the weights are fixed and not in the total")
    if summary.non_trainable:
        lines.append(f"{summary.non_trainable:,} moving statistics, not trainable")
    lines.append(
        f"activations in float32: {_mib(summary.activation_bytes)} MiB an image with the input,"
        f" about twice that for training, {_mib(summary.training_activation_bytes)} MiB"
    )
    if summary.advice:
        lines.append("cheaper, by the arithmetic of small filters:")
        lines += [f"  {item.text}" for item in summary.advice]
    return lines


def _wrapped(line: str, width: int) -> str:
    """A line in as many as it needs, those after the first set in further; a number stays with its arrow and unit."""
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    tied = re.sub(r" (?=->|weights|MACs|MiB)|(?<=->) ", TIE, line)
    lines = textwrap.fill(tied, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return lines.replace(TIE, " ")


def _mib(count: int) -> str:
    text = f"{count / MIB:,.3f}"
    return text if float(text.replace(",", "")) else "<0.001"
