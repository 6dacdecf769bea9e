"""The summary table: rows, totals and the printed form."""

from __future__ import annotations

import io
import json

from rich.console import Console

from cnnc.frontend import load, read_source
from cnnc.ir import ops
from cnnc.ir.model import Model
from cnnc.report.summary import OP_NAMES, print_table, summarize, summary_json

TEXT = """
model small
input 9x9x3
conv1: conv 4 3x3 bn relu
maxpool 2x2
conv 6 1x1 nobias
globalavgpool
dropout 0.25
fc 5
softmax
"""


def model() -> Model:
    return load(read_source(TEXT))


def test_rows_are_layers_in_program_order() -> None:
    rows = [
        (row.name, row.op, row.output, row.params, row.macs, row.activation_bytes) for row in summarize(model()).rows
    ]
    assert rows == [
        ("conv1", "conv", (7, 7, 4), 4 * 27 + 4, 49 * 4 * 27, 4 * 196),
        ("conv1.bn", "batch_norm", (7, 7, 4), 8, 0, 0),
        ("maxpool1", "pool", (3, 3, 4), 0, 0, 4 * 36),
        ("conv2", "conv", (3, 3, 6), 24, 9 * 24, 4 * 54),
        ("globalavgpool1", "global_avg_pool", (6,), 0, 0, 4 * 6),
        ("dropout1", "dropout", (6,), 0, 0, 0),
        ("fc1", "dense", (5,), 35, 30, 4 * 5),
        ("softmax1", "softmax", (5,), 0, 0, 0),
    ]


def test_totals_add_the_input_and_keep_moving_statistics_apart() -> None:
    totals = summary_json(model())["totals"]
    assert totals == {
        "trainable": 112 + 8 + 24 + 35,
        "non_trainable": 8,
        "macs": 5292 + 216 + 30,
        "activation_bytes": 4 * (243 + 196 + 36 + 54 + 6 + 5),
    }


def test_json_is_plain_data() -> None:
    found = summary_json(model())
    assert json.loads(json.dumps(found)) == found
    assert list(found) == ["name", "input", "layers", "totals"]
    assert list(found["layers"][0]) == ["name", "op", "output", "params", "macs", "activation_bytes"]


def test_the_table_shows_every_layer_and_the_totals() -> None:
    stream = io.StringIO()
    print_table(model(), Console(file=stream, width=120))
    text = stream.getvalue()
    for row in summarize(model()).rows:
        assert row.name in text
    assert "179" in text
    assert "5,538" in text
    assert "8 moving statistics" in text


def test_every_op_a_program_can_contain_has_a_row_name() -> None:
    # What the frontend adds beside these stands behind a conv or fc, in its row.
    forward = {ops.Conv, ops.Linear, ops.MaxPool, ops.AvgPool, ops.GlobalAvgPool, ops.BatchNorm}
    forward |= {ops.Activation, ops.Dropout, ops.Flatten, ops.Softmax}
    assert set(OP_NAMES) == forward
