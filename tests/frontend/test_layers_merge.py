"""Merges, shortcuts and heads as nodes."""

from __future__ import annotations

import pytest

from cnnc.ir import ops
from cnnc.ir.model import Head
from cnnc.ir.window import Window
from tests.frontend.layer_text import error_of, expanded, model_of, node_of, nodes_of


def test_sums_and_products_are_chains_and_the_last_node_has_the_name() -> None:
    model = model_of("tanh\nrelu\ns: add(input, 0.5 * tanh1, -2 * relu1) elu(0.5)\np: mul(s, tanh1, relu1, input)")
    assert nodes_of(model) == [
        "tanh1 activation",
        "relu1 activation",
        "s.scale2 scale",
        "s.scale3 scale",
        "s.2 add",
        "s add",
        "s.elu activation",
        "p.2 mul",
        "p.3 mul",
        "p mul",
    ]
    graph = model.graph
    assert [graph[name].op for name in ("s.scale2", "s.scale3")] == [ops.Scale(0.5), ops.Scale(-2.0)]
    assert [value.node for value in graph["s"].operands] == ["s.2", "s.scale3"]
    assert {graph[name].layer for name in ("s.scale2", "s.2", "s", "s.elu")} == {"s"}
    assert [value.node for value in graph["p.2"].operands] == ["s.elu", "tanh1"]


def test_concat_is_one_node_in_the_order_of_its_arms() -> None:
    model = model_of("c: concat { | conv 3 1x1 | identity | 0.5 * conv 5 1x1 } relu")
    assert [value.node for value in model.graph["c"].operands] == ["conv1.add_bias", "input", "c.scale3"]
    assert model.output_shape == (8, 8, 12)


def test_the_same_layer_may_stand_in_several_arms() -> None:
    assert [value.node for value in node_of("s: add(input, input)", "s").operands] == ["input", "input"]
    assert node_of("c: concat(input, input)", "c").types[0].shape == (8, 8, 8)


def test_a_merge_of_one_layer_is_that_layer() -> None:
    model = model_of("l: relu\nadd(l)\nconcat(add1)\ntanh")
    assert nodes_of(model) == ["l activation", "tanh1 activation"]
    assert nodes_of(model_of("l: relu\ns: add(0.5 * l) relu")) == [
        "l activation",
        "s.scale1 scale",
        "s.relu activation",
    ]


def test_merges_of_vectors() -> None:
    assert model_of("a: fc 3\nfrom input\nb: fc 3\nadd(a, b)\nconcat(add1, input)", "5").output_shape == (8,)


SHORTCUT = "CONV: same, nobias, bn, relu\nadd { | conv {k} 3x3/{s} linear | x: shortcut {option} } relu"


def shortcut(option: str, k: int, s: str) -> str:
    return SHORTCUT.replace("{option}", option).replace("{k}", str(k)).replace("{s}", s)


@pytest.mark.parametrize("option", ["A", "B"])
def test_a_shortcut_between_equal_shapes_is_nothing(option: str) -> None:
    model = model_of(shortcut(option, 4, "1"))
    assert "x" not in model.graph
    assert [value.node for value in model.graph["add1"].operands] == ["conv1.bn", "input"]
    assert "x" not in "\n".join(expanded(shortcut(option, 4, "1"))).split()


def test_option_a_subsamples_and_fills_with_zeros() -> None:
    assert node_of(shortcut("A", 6, "2"), "x").op == ops.PadShortcut((2, 2), 6)
    assert node_of(shortcut("A", 6, "(1,3)"), "x", "8x9x4").op == ops.PadShortcut((1, 3), 6)
    assert node_of(shortcut("A", 4, "2"), "x", "7x5x4").types[0].shape == (4, 3, 4)
    assert "x: shortcut A s=2 width=6 => 4x4x6" in expanded(shortcut("A", 6, "2"))


@pytest.mark.parametrize(
    ("option", "k", "s"), [("B", 6, "2"), ("B", 6, "1"), ("B", 4, "2"), ("C", 4, "1"), ("C", 6, "2")]
)
def test_options_b_and_c_project_with_bias_and_norm_of_convs_and_nothing_else(option: str, k: int, s: str) -> None:
    model = model_of(shortcut(option, k, s))
    assert model.graph["x"].op == ops.Conv(Window((1, 1), (int(s), int(s))))
    assert "x.bn" in model.graph
    assert "x.add_bias" not in model.graph
    assert "x.relu" not in model.graph
    assert [value.node for value in model.graph["add1"].operands] == ["conv1.bn", "x.bn"]


def test_a_shortcut_may_stand_before_the_arm_that_it_follows() -> None:
    model = model_of("concat { | shortcut A | conv 6 3x3/2 same }")
    assert [value.node for value in model.graph["concat1"].operands] == ["shortcut1", "conv1.add_bias"]


def test_a_head_reads_the_main_flow_and_leaves_it() -> None:
    model = model_of("relu\nhead aux loss=0.3 { globalavgpool; fc 3 softmax }\nhead other { flatten }\ntanh")
    assert model.heads == (Head("aux", 0.3), Head("other", 1.0))
    outputs = {name: value.node for name, value in model.graph.outputs.items()}
    assert outputs == {"output": "tanh1", "aux": "aux.fc1.softmax", "other": "other.flatten1"}
    assert next(iter(outputs)) == "output"
    assert model.graph["tanh1"].operands[0].node == "relu1"


def test_what_ends_elsewhere_is_expanded_with_a_from() -> None:
    text = expanded("a: relu\nb: tanh\nfrom a")
    assert text == ["a: relu => 8x8x4", "b: tanh => 8x8x4", "from a"]
    model = model_of("a: relu\nb: tanh\nfrom a")
    assert model.graph.outputs["output"].node == "a"


def test_shapes_that_disagree_are_one_error_with_all_arms() -> None:
    body = "a: conv 4 3x3\nb: conv 5 1x1\nc: conv 4 2x2\n"
    for keyword in ("add", "mul"):
        message = f"`{keyword}` needs equal shapes: `a` 6x6x4, `b` 6x6x5, `c` 5x5x4"
        assert error_of(f"{body}{keyword}(a, b, c)\nconv 4 99x99")[:2] == (message, "b")
    message = "`concat` needs equal heights and widths: `a` 6x6x4, `b` 6x6x5, `c` 5x5x4"
    assert error_of(f"{body}concat(a, b, c)")[:2] == (message, "c")


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ("| conv 8 4x4 | shortcut A", "no stride leads from 8x8x4 to 5x5x8"),
        ("| conv 8 4x4 | shortcut B", "no stride leads from 8x8x4 to 5x5x8"),
        ("| conv 2 3x3/2 same | shortcut A", "`shortcut A` can't drop channels: 4 to 2"),
        ("| globalavgpool | shortcut B", "no shortcut leads from 8x8x4 to 4"),
    ],
)
def test_shortcuts_that_lead_nowhere(arms: str, message: str) -> None:
    assert error_of(f"add {{ {arms} }}")[:2] == (message, "shortcut")


def test_a_merge_with_a_failed_arm_says_nothing_more() -> None:
    assert error_of("a: conv 3 99x99\nb: conv 3 1x1\nadd(a, b)\nconv 3 88x88")[0].startswith("kernel 99x99")
