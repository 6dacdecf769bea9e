"""What statements become: nodes, names, parameters, windows, the train block."""

from __future__ import annotations

import pytest

from cnnc.errors import ProgramError
from cnnc.frontend import load, lower, parse
from cnnc.ir import ops
from cnnc.ir.model import Model
from cnnc.ir.params import Init
from cnnc.ir.printer import print_graph
from cnnc.ir.training import Sgd, TrainConfig
from cnnc.ir.types import Element
from cnnc.ir.verify import verify
from cnnc.ir.window import Window
from cnnc.source import Source


def model_of(body: str, shape: str = "16x16x4") -> Model:
    model = load(Source("t", f"input {shape}\n{body}"))
    verify(model.graph)
    return model


def window_of(statement: str, shape: str = "16x16x4") -> Window:
    node = model_of(f"x: {statement}", shape).graph["x"]
    assert isinstance(node.op, (ops.Conv, ops.MaxPool, ops.AvgPool))
    return node.op.window


def output_of(body: str, shape: str = "16x16x4") -> tuple[int, ...]:
    graph = model_of(body, shape).graph
    return graph.type_of(graph.outputs["output"]).shape


def test_a_conv_statement_is_conv_bias_bn_activation_however_written() -> None:
    model = model_of("conv1: conv 8 3x3 relu bn same")
    assert print_graph(model.graph) == print_graph(model_of("conv1: conv 8 3x3 same bn relu").graph)
    nodes = [(node.name, node.layer) for node in model.graph.walk()]
    assert nodes == [
        ("input", "input"),
        ("conv1.weight", "conv1"),
        ("conv1", "conv1"),
        ("conv1.bias", "conv1"),
        ("conv1.add_bias", "conv1"),
        ("conv1.bn.weight", "conv1.bn"),
        ("conv1.bn.bias", "conv1.bn"),
        ("conv1.bn.running_mean", "conv1.bn"),
        ("conv1.bn.running_var", "conv1.bn"),
        ("conv1.bn", "conv1.bn"),
        ("conv1.relu", "conv1.bn"),
    ]
    assert model.graph["conv1.relu"].span.text == "conv1: conv 8 3x3 relu bn same"  # type: ignore[union-attr]


def test_parameters_have_pytorchs_shapes_and_initial_values() -> None:
    specs = {spec.name: spec for spec in model_of("conv 8 3x3 groups=2 bn\nfc 5\nbn").params()}
    assert {name: spec.torch_shape for name, spec in specs.items() if not name.startswith(("bn", "conv1.bn"))} == {
        "conv1.weight": (8, 2, 3, 3),
        "conv1.bias": (8,),
        "fc1.weight": (5, 8 * 14 * 14),
        "fc1.bias": (5,),
    }
    assert specs["conv1.weight"].init == specs["conv1.bias"].init == Init("uniform", 18)
    assert specs["fc1.bias"].init == Init("uniform", 8 * 14 * 14)
    kinds = {name: (specs[f"bn1.{name}"].init.kind, specs[f"bn1.{name}"].trainable) for name in ("weight", "bias")}
    assert kinds == {"weight": ("ones", True), "bias": ("zeros", True)}
    assert specs["bn1.running_mean"].init.kind == "zeros"
    assert specs["bn1.running_var"].init.kind == "ones"
    assert not specs["conv1.bn.running_mean"].trainable


def test_matrix_operands_read_the_compute_dtype_and_vectors_the_master() -> None:
    graph = model_of("conv 8 3x3 bn\nfc 5").graph
    elements = {n.name: n.types[0].element for n in graph.walk() if isinstance(n.op, ops.Parameter)}
    real = {name for name, element in elements.items() if element is Element.REAL}
    assert real == {"conv1.weight", "fc1.weight"}


@pytest.mark.parametrize(
    ("statement", "window"),
    [
        ("conv 4 3x3", Window((3, 3))),
        ("conv 4 11x7/4", Window((11, 7), (4, 4))),
        ("conv 4 3x3/(2,1)", Window((3, 3), (2, 1))),
        ("conv 4 f=(1,5) s=2", Window((1, 5), (2, 2))),
        ("conv 4 3x3 pad=2", Window((3, 3), pad=(2, 2, 2, 2))),
        ("conv 4 3x3 pad=(1,2)", Window((3, 3), pad=(1, 1, 2, 2))),
        ("conv 4 3x3 pad=(1,2,3,4)", Window((3, 3), pad=(1, 2, 3, 4))),
        ("conv 4 3x3 same dilation=(2,3)", Window((3, 3), pad=(2, 2, 3, 3), dilation=(2, 3))),
        ("conv 4 4x4/2 same", Window((4, 4), (2, 2), (1, 2, 1, 2))),
        ("conv 4 3x3/2 same", Window((3, 3), (2, 2), (1, 1, 1, 1))),
        ("conv 4 3x3/2 same=tf", Window((3, 3), (2, 2), (0, 1, 0, 1))),
        ("conv 4 3x3 valid", Window((3, 3))),
        ("maxpool 3x3", Window((3, 3), (3, 3))),
        ("maxpool 3x2", Window((3, 2), (3, 2))),
        ("maxpool 3x3/2 ceil", Window((3, 3), (2, 2), ceil=True)),
        ("avgpool f=2 s=1", Window((2, 2), (1, 1))),
    ],
)
def test_windows(statement: str, window: Window) -> None:
    assert window_of(statement) == window


def test_strides_that_do_not_divide_round_down_and_ceil_up() -> None:
    assert output_of("maxpool 3x3/2", "8x8x1") == (3, 3, 1)
    assert output_of("maxpool 3x3/2 ceil", "8x8x1") == (4, 4, 1)


def test_expressions() -> None:
    assert output_of("conv 2^3*3-4/2 1x1") == (16, 16, 22)
    assert output_of("conv 2^3^0+(1+2)*2 1x1") == (16, 16, 8)
    assert output_of("conv -1+4 3x3/(1+1)") == (7, 7, 3)


def test_defaults_hold_from_their_line_on_and_are_replaced_whole() -> None:
    graph = model_of("a: conv 4 1x1\nCONV: 3x3, same, relu\nb: conv 4\nc: conv 4 linear\nCONV: bn\nd: conv 4 1x1").graph
    assert "a.relu" not in graph
    assert "b.relu" in graph
    assert "c.relu" not in graph
    assert "d.bn" in graph
    assert "d.relu" not in graph


def test_a_statement_undoes_its_defaults() -> None:
    graph = model_of("CONV: same, nobias, bn, relu\na: conv 4 3x3 bias nobn tanh valid\nb: conv 4 3x3").graph
    assert ["a.add_bias" in graph, "a.bn" in graph, "a.tanh" in graph, "b.add_bias" in graph] == [
        True,
        False,
        True,
        False,
    ]
    assert graph["a"].types[0].shape == (14, 14, 4)


def test_fc_and_bn_and_dropout_and_pool_defaults() -> None:
    model = model_of(
        "POOL: f=2, s=1, countpad\nFC: tanh\nBN: eps=1e-3\nDROPOUT: 0.25\nmaxpool\navgpool 3x3\nfc 3 bn\ndropout"
    )
    assert model.graph["maxpool1"].op == ops.MaxPool(Window((2, 2)))
    assert model.graph["avgpool1"].op == ops.AvgPool(Window((3, 3)), count_pad=True)
    assert model.graph["fc1.bn"].op == ops.BatchNorm(eps=1e-3)
    assert model.graph["fc1.tanh"].op == ops.Activation("tanh")
    assert model.graph["dropout1"].op == ops.Dropout(0.25, 0)


def test_automatic_names_count_labelled_layers_and_avoid_labels() -> None:
    layers = [node.layer for node in model_of("relu\na: relu\nrelu\nrelu5: tanh\nrelu\nrelu").graph.walk()][1:]
    assert layers == ["relu1", "a", "relu3", "relu5", "relu4", "relu6"]


def test_fc_flattens_by_itself_and_counts_explicit_flattens() -> None:
    assert "flatten1" in model_of("fc 3\nfc 4").graph
    graph = model_of("f: flatten\nfc 3").graph
    assert "flatten1" not in graph
    assert graph["f"].layer == "f"


def test_single_letters_and_repeats_can_be_labels() -> None:
    assert output_of("f: conv 2 3x3\ns: relu\nx3: relu\nC: relu") == (14, 14, 2)


def test_dropout_layers_have_streams_of_their_own() -> None:
    streams = [
        n.op.stream for n in model_of("dropout\ndropout 0.1\ndropout 0").graph.walk() if isinstance(n.op, ops.Dropout)
    ]
    assert streams == [0, 1, 2]


def test_a_vector_can_be_the_input() -> None:
    assert output_of("fc 5 sigmoid\nbn\nsoftmax", "784") == (5,)


def test_train_block() -> None:
    body = "relu\ntrain { loss cross_entropy; batch 2^7\n\n epochs 90 # long\n"
    body += "optimizer sgd lr=0.01 momentum=0.9 weight_decay=5e-4 }"
    assert model_of(body).train == TrainConfig("cross_entropy", Sgd(0.01, 0.9, 5e-4), 128, 90)
    assert model_of("relu").train == TrainConfig()


@pytest.mark.parametrize(
    ("option", "decayed"), [("", {"w", "b"}), (" decay=all", {"w", "b"}), (" decay=weights", {"w"})]
)
def test_what_decays(option: str, decayed: set[str]) -> None:
    specs = model_of(f"conv 2 3x3 bn\ntrain {{ optimizer sgd lr=1{option} }}").params()
    found = {"w" if "r.weight" in f"r.{s.name[6:]}" else "b" for s in specs if s.trainable and s.decay}
    assert found == decayed


def test_lower_reports_what_parse_does_not() -> None:
    program = parse(Source("t", "input 8x8x3\nconv 4 9x9\n"))
    with pytest.raises(ProgramError, match="does not fit"):
        lower(program)


def test_statements_chain_with_semicolons() -> None:
    assert output_of("conv 4 3x3; relu;; maxpool 2x2 # end") == (7, 7, 4)
