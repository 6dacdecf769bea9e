"""The summary table: rows, totals and the printed form."""

from __future__ import annotations

import dataclasses
import io
import json

from rich.console import Console

from cnnc.frontend import load, read_source
from cnnc.ir import ops
from cnnc.ir.model import Model
from cnnc.ir.params import Init, conv_spec, vector_spec
from cnnc.ir.types import format_shape
from cnnc.ir.window import Window
from cnnc.report.layers import OP_NAMES
from cnnc.report.summary import Row, print_table, summarize, summary_json
from tests.report_networks import Net, resnet

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


def table(model: Model, width: int = 120) -> str:
    stream = io.StringIO()
    print_table(model, Console(file=stream, width=width))
    return stream.getvalue()


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
        ("softmax1", "activation", (5,), 0, 0, 0),
    ]


def test_totals_add_the_input_and_keep_moving_statistics_apart() -> None:
    totals = summary_json(model())["totals"]
    assert totals == {
        "trainable": 112 + 8 + 24 + 35,
        "non_trainable": 8,
        "fixed": 0,
        "macs": 5292 + 216 + 30,
        "activation_bytes": 4 * (243 + 196 + 36 + 54 + 6 + 5),
    }


def test_json_is_plain_data() -> None:
    found = summary_json(model())
    assert json.loads(json.dumps(found)) == found
    assert list(found)[:4] == ["name", "input", "layers", "totals"]
    assert list(found["layers"][0])[:6] == ["name", "op", "output", "params", "macs", "activation_bytes"]
    assert found["layers"][0]["receptive_field"] == [3, 3]
    assert found["layers"][-1]["receptive_field"] is None
    assert found["training_activation_bytes"] == 2 * found["totals"]["activation_bytes"]


def test_the_table_shows_every_layer_and_the_totals() -> None:
    text = table(model())
    for row in summarize(model()).rows:
        assert row.name in text
    assert "179" in text
    assert "5,538" in text
    assert "8 moving statistics" in text
    assert "0.002 MiB an image with the input, about twice that for training, 0.004 MiB" in text


def test_a_narrow_terminal_breaks_names_and_no_number() -> None:
    resnet50 = resnet((3, 4, 6, 3))
    text = table(resnet50, 80)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "…" not in text
    for row in summarize(resnet50).rows:
        assert format_shape(row.output) in text
        assert not row.macs or f"{row.macs:,}" in text
    assert "┃" not in text
    assert "┃" in table(resnet50, 120)
    assert "┃" in table(model(), 90)


# -- what a layer is, and what it counts ----------------------------------------------------------------


def rows_of(model: Model, *, train: bool = False) -> dict[str, Row]:
    return {row.name: row for row in summarize(model, train=train).rows}


def test_a_masked_conv_counts_its_connections() -> None:
    # LeNet-5's C3: 6 filters read 3 maps, 9 read 4, 1 reads all.
    net = Net(14, 14, 6)
    counts = (3,) * 6 + (4,) * 9 + (6,)
    values = tuple(float(c < count) for count in counts for c in range(6))
    mask = net.constant("C3", (16, 6), Init("values", values=values))
    weight = net.parameter("C3", conv_spec("C3.weight", 16, (5, 5), 6))
    y = net.node("C3", ops.Conv(Window((5, 5))), net.x, net.node("C3", ops.MaskWeight(), weight, mask))
    y = net.node("C3", ops.BiasAdd(), y, net.parameter("C3", vector_spec("C3.bias", 16, Init("zeros"))))
    row = rows_of(net.model(y))["C3"]
    assert (row.op, row.params, row.macs, row.fixed) == ("conv", 1516, 150_000, 0)


def test_a_masked_product_of_a_layer_without_zeros_counts_all() -> None:
    net = Net(4, 4, 2)
    weight = net.parameter("c", conv_spec("c.weight", 3, (3, 3), 2))
    masked = net.node("c", ops.MaskWeight(), weight, net.constant("c", (3, 2), Init("ones")))
    row = rows_of(net.model(net.node("c", ops.Conv(Window((3, 3))), net.x, masked)))["c"]
    assert (row.params, row.macs) == (54, 4 * 54)


def test_a_subsample_is_one_layer_of_four_ops() -> None:
    net = Net(28, 28, 6)
    y = net.node("S2", ops.SumPool(Window((2, 2), (2, 2))))
    y = net.node("S2", ops.ChannelScale(), y, net.parameter("S2", vector_spec("S2.weight", 6, Init("ones"))))
    y = net.node("S2", ops.BiasAdd(), y, net.parameter("S2", vector_spec("S2.bias", 6, Init("zeros"))))
    y = net.node("S2", ops.Activation("scaled_tanh"), y)
    row = rows_of(net.model(y))["S2"]
    assert (row.op, row.params, row.macs, row.activation_bytes) == ("subsample", 12, 0, 4 * 14 * 14 * 6)


def test_fixed_codes_are_in_their_row_and_in_no_trainable_total() -> None:
    net = Net(1, 1, 84)
    x = net.node("flatten1", ops.Flatten())
    codes = net.constant("OUT", (10, 84), Init("values", values=(1.0,) * 840), listed=True)
    found = summary_json(net.model(net.node("OUT", ops.Rbf(), x, codes)))
    row = found["layers"][1]
    assert (row["op"], row["params"], row["macs"], row["activation_bytes"]) == ("rbf", 840, 840, 40)
    assert (found["totals"]["trainable"], found["totals"]["non_trainable"], found["totals"]["fixed"]) == (0, 0, 840)
    assert "840 of the weights are fixed" in table(net.model(net.graph["OUT.rbf"].value()))


def test_a_transposed_conv() -> None:
    # FCN's upscore2: 16x16x21 to 34x34x21 counts every channel pair.
    net = Net(16, 16, 21)
    weight = net.constant("up", (21, 4, 4, 21), Init("bilinear"), listed=True)
    row = rows_of(net.model(net.node("up", ops.ConvDgrad(Window((4, 4), (2, 2)), (34, 34)), net.x, weight)))["up"]
    assert (row.op, row.output, row.params, row.macs) == ("deconv", (34, 34, 21), 7056, 1_806_336)
    assert row.activation_bytes == 4 * 34 * 34 * 21


def test_an_add_of_four_operands_and_a_scaled_arm() -> None:
    net = Net(4, 4, 2)
    arms = [net.conv(f"conv{i}", net.x, 2, 1) for i in range(4)]
    y = arms[0]
    for arm in arms[1:]:
        y = net.node("add1", ops.Add(), y, arm)
    y = net.node("add1", ops.Activation("relu"), y)
    y = net.node("add2", ops.Add(), y, net.node("add2", ops.Scale(0.2), arms[1]))
    rows = rows_of(
        net.model(
            net.node(
                "pool1",
                ops.Activation("sqrt"),
                net.node("pool1", ops.SumPool(Window((2, 2))), net.node("pool1", ops.Mul(), y, y)),
            )
        )
    )
    assert [(row.name, row.op) for row in rows.values()][4:] == [("add1", "add"), ("add2", "add"), ("pool1", "pool")]


def test_local_contrast_counts_none_of_its_constants() -> None:
    net = Net(9, 9, 2)
    window = net.constant("lcn1", (2, 3, 3, 1), Init("gaussian", values=(1.0,)))
    mean = net.node("lcn1", ops.Conv(Window((3, 3), pad=(1, 1, 1, 1)), 2), net.x, window)
    y = net.node("lcn1", ops.Add(), net.x, net.node("lcn1", ops.Scale(-1.0), mean))
    row = rows_of(net.model(y))["lcn1"]
    assert (row.op, row.params, row.macs, row.activation_bytes) == ("lcn", 0, 0, 0)


def test_a_gamma_that_is_a_constant_does_not_count() -> None:
    # Inception-v3's batch norm has beta only.
    net = Net(3, 3, 5)
    spec = vector_spec("bn1.weight", 5, Init("ones"), trainable=False)
    gamma = net.parameter("bn1", dataclasses.replace(spec, listed=False))
    rest = [net.parameter("bn1", vector_spec("bn1.bias", 5, Init("zeros")))]
    rest += [net.parameter("bn1", vector_spec(f"bn1.{n}", 5, Init("zeros"), trainable=False)) for n in ("mean", "var")]
    found = summarize(net.model(net.node("bn1", ops.BatchNorm(), net.x, gamma, *rest)))
    assert (found.rows[0].params, found.trainable, found.non_trainable) == (5, 5, 10)


def test_heads_count_with_train_alone() -> None:
    net = Net(8, 8, 3)
    shared = net.conv("conv1", net.x, 4, 3)
    aux = net.fc("aux1.fc1", net.conv("aux1.conv1", shared, 2, 1), 5)
    net_model = net.model(net.fc("fc1", shared, 5), heads=[("aux1", aux)])
    assert list(rows_of(net_model)) == ["conv1", "fc1_flatten", "fc1"]
    assert list(rows_of(net_model, train=True)) == [
        "conv1",
        "aux1.conv1",
        "aux1.fc1_flatten",
        "aux1.fc1",
        "fc1_flatten",
        "fc1",
    ]
    assert summarize(net_model, train=True).trainable - summarize(net_model).trainable == 8 + 5 * 128


def test_a_layer_that_nothing_reads_still_counts() -> None:
    net = Net(8, 8, 3)
    net.conv("unused", net.x, 4, 3)
    assert list(rows_of(net.model(net.conv("conv1", net.x, 4, 3)))) == ["unused", "conv1"]


def test_a_sequence_shows_length_and_channels() -> None:
    net = Net(64, 1, 32)
    spec = conv_spec("conv1.weight", 16, (2, 1), 32)
    window = Window((2, 1), pad=(4, 0, 0, 0), dilation=(4, 1))
    y = net.node("conv1", ops.Conv(window), net.x, net.parameter("conv1", spec))
    found = summary_json(net.model(y, sequence=True))
    assert found["input"] == [64, 32]
    row = found["layers"][0]
    assert (row["op"], row["output"], row["receptive_field"], row["macs"]) == ("conv1d", [64, 16], [5], 64 * 1024)
    assert "64x16" in table(net.model(y, sequence=True))


def test_every_op_a_program_can_contain_has_a_row_name() -> None:
    forward = {ops.Conv, ops.ConvDgrad, ops.Linear, ops.Rbf, ops.MaxPool, ops.AvgPool, ops.SumPool, ops.GlobalAvgPool}
    forward |= {ops.BatchNorm, ops.Lrn, ops.Concat, ops.Add, ops.Mul, ops.PadShortcut, ops.Maxout, ops.Crop}
    forward |= {ops.ZeroPad, ops.Upsample, ops.ChannelShuffle, ops.ChannelSlice, ops.Flatten, ops.Unflatten}
    forward |= {ops.Dropout, ops.Softmax, ops.Activation, ops.PRelu, ops.BiasAdd, ops.PositionBias}
    forward |= {ops.ChannelScale, ops.Scale, ops.Identity}
    assert set(OP_NAMES) == forward
