"""Structure: names and scopes, calls, repetitions, merges, shortcuts, references, heads, defaults in blocks."""

from __future__ import annotations

import pytest

from cnnc.errors import ProgramError
from cnnc.frontend import expand, load
from cnnc.ir import ops
from cnnc.ir.graph import Node
from cnnc.ir.model import Model
from cnnc.source import Source


def model(text: str) -> Model:
    return load(Source("t", f"input 16x16x4\n{text}"))


def layers(text: str) -> list[str]:
    """Names of all layers with weights or of merges, in order."""
    kinds = (ops.Conv, ops.Add, ops.Concat, ops.Mul, ops.Linear)
    return [node.name for node in model(text).graph.walk() if isinstance(node.op, kinds)]


def node(text: str, name: str) -> Node:
    return model(text).graph[name]


def reads(text: str, name: str) -> list[str]:
    """The layers that a node reads."""
    graph = model(text).graph
    return [
        graph[value.node].layer for value in graph[name].operands if not isinstance(graph[value.node].op, ops.Parameter)
    ]


def error(text: str) -> str:
    with pytest.raises(ProgramError) as caught:
        model(text)
    return str(caught.value)


UNIT = "block unit(w, s=1) { conv w 3x3/s same; skip: conv w 1x1 }\n"


def test_calls_open_scopes_named_by_label_or_block() -> None:
    assert layers(f"{UNIT}unit(4)\na: unit(4)\nunit(4)") == [
        *("unit1.conv1", "unit1.skip"),
        *("a.conv1", "a.skip"),
        *("unit3.conv1", "unit3.skip"),
    ]


def test_repeated_calls_are_numbered() -> None:
    assert layers(f"{UNIT}unit(4) x2\na: unit(4) x2\nunit(4)")[::2] == [
        *("unit1.conv1", "unit2.conv1", "a.1.conv1", "a.2.conv1", "unit5.conv1"),
    ]
    assert layers(f"{UNIT}a: unit(4) x1") == ["a.1.conv1", "a.1.skip"]


def test_repeated_statements_count_on() -> None:
    assert layers("conv 4 1x1 x2\na: conv 4 1x1\nb: conv 4 1x1 x2\nconv 4 1x1") == [
        *("conv1", "conv2", "a", "b.1", "b.2", "conv6"),
    ]


def test_a_repeated_label_means_its_last_turn() -> None:
    text = f"{UNIT}a: unit(4) x3\nb: conv 4 1x1 x2\nadd(a, b, a.1)"
    assert reads(text, "add1.2") == ["a.3.skip", "b.2"]
    assert reads(text, "add1") == ["add1", "a.1.skip"]


def test_first_and_last_change_arguments() -> None:
    text = f"{UNIT}a: unit(4) x3 first(s=2) last(w=8)"
    assert [node(text, f"a.{turn}.conv1").types[0].shape for turn in (1, 2, 3)] == [(8, 8, 4), (8, 8, 4), (8, 8, 8)]
    assert node(f"{UNIT}a: unit(4) x1 first(s=2) last(w=8)", "a.1.conv1").types[0].shape == (8, 8, 8)


def test_defaults_of_parameters_may_use_earlier_ones() -> None:
    assert node("block b(w, v=2*w, act=relu) { conv v 1x1 act }\nb(3)", "b1.conv1").types[0].shape == (16, 16, 6)
    assert "unknown name" in error("block b(v=2*w, w=1) { conv v 1x1 }\nb()")


def test_parameters_of_every_kind_reach_their_places() -> None:
    text = "block b(k, p, act, g=2) { conv 2*k 3x3/g pad=(k,0) groups=g act; dropout p }\nb(2, 0.25, elu(0.5))"
    graph = model(text).graph
    conv = graph["b1.conv1"].op
    assert isinstance(conv, ops.Conv) and (conv.groups, conv.window.stride, conv.window.pad) == (
        2,
        (2, 2),
        (2, 2, 0, 0),
    )
    assert graph["b1.conv1.elu"].op == ops.Activation("elu", 0.5)
    assert isinstance(dropout := graph["b1.dropout1"].op, ops.Dropout) and dropout.rate == 0.25


def test_an_activation_that_does_nothing() -> None:
    assert "b1.add1.relu" not in model("block b(a) { add { | conv 4 1x1 a | identity } a }\nb(linear)").graph


def test_repetitions() -> None:
    assert layers("repeat 2 { conv 4 1x1 }\nconv 4 1x1") == ["conv1", "conv2", "conv3"]
    assert layers("l: repeat 2 { conv 4 1x1; s: conv 4 1x1 }") == ["l.1.conv1", "l.1.s", "l.2.conv1", "l.2.s"]
    assert layers(f"{UNIT}l: repeat i=1..2 {{ unit(i) }}") == ["l.1.conv1", "l.1.skip", "l.2.conv1", "l.2.skip"]
    widths = [node("repeat i=0..2 { conv 2^i 1x1 }", f"conv{turn}").types[0].shape[2] for turn in (1, 2, 3)]
    assert widths == [1, 2, 4]
    assert layers("block b(n) { repeat n-1 { conv 4 1x1 }; relu }\nb(1)\nb(3)") == ["b2.conv1", "b2.conv2"]


def test_gathering() -> None:
    text = f"{UNIT}l: repeat i=1..3 {{ unit(4) }}\n"
    assert reads(text + "concat(l.*.skip, 0.5*l.*.conv1)", "concat1")[:3] == ["l.1.skip", "l.2.skip", "l.3.skip"]
    assert reads(text + "concat(l.*)", "concat1") == ["l.1.skip", "l.2.skip", "l.3.skip"]


def test_a_repetition_of_one_turn_can_be_gathered() -> None:
    text = f"{UNIT}l: repeat 1 {{ unit(4) }}\nadd(l.*.skip)\nconv 3 1x1"
    assert reads(text, "conv1") == ["l.1.skip"]


def test_arms_read_what_enters_the_merge_and_open_no_scope() -> None:
    arms = "| identity | conv 4 1x1; a: conv 2 1x1 | 0.5 * maxpool 1x1"
    text = f"conv 4 1x1\nm: concat {{ {arms} }} relu\nadd(a, a)\nconv 2 1x1"
    assert layers(text) == ["conv1", "conv2", "a", "m", "add1", "conv4"]
    assert reads(text, "m") == ["conv1", "a", "m"]
    assert reads(text, "m.scale3") == ["maxpool1"]
    assert reads(text, "conv2") == ["conv1"]
    assert reads(text, "maxpool1") == ["conv1"]


def test_merges_nest_and_repeat() -> None:
    text = "add { | add { | identity | conv 4 1x1 } | concat { | conv 2 1x1 | conv 2 1x1 } } x2"
    assert layers(text) == [
        *("conv1", "add2", "conv2", "conv3", "concat1", "add1"),
        *("conv4", "add4", "conv5", "conv6", "concat2", "add3"),
    ]


def test_shortcuts_do_what_their_letter_says() -> None:
    main = "conv 8 3x3/2 pad=1"
    graph = model(f"add {{ | shortcut B | {main} }}").graph
    assert graph["shortcut1"].op == ops.Conv(graph["shortcut1"].op.window, 1)  # type: ignore[attr-defined]
    assert graph["shortcut1"].types[0].shape == (8, 8, 8)
    assert graph["add1"].operands[0].node.startswith("shortcut1")
    assert model(f"add {{ | {main} | shortcut A }}").graph["shortcut1"].op == ops.PadShortcut((2, 2), 8)
    for option, projects in (("A", False), ("B", False), ("C", True)):
        assert ("shortcut1" in model(f"add {{ | conv 4 1x1 | shortcut {option} }}").graph) is projects


def test_projections_take_bias_and_norm_of_the_conv_default() -> None:
    text = "add { | conv 8 1x1 | shortcut C }"
    assert "shortcut1.bias" in model(text).graph
    graph = model(f"CONV: nobias, bn, relu, same\n{text}").graph
    assert "shortcut1.bias" not in graph and "shortcut1.bn" in graph and "shortcut1.relu" not in graph


def test_shortcut_names_count_in_the_order_of_the_text() -> None:
    text = "add { | shortcut C | add { | shortcut C | conv 4 1x1 } | conv 4 1x1 }"
    assert reads(text, "add1.2")[0] == "shortcut1"
    assert reads(text, "add2")[0] == "shortcut2"


def test_from_reads_any_layer_again() -> None:
    text = "a: conv 4 1x1\nmaxpool 2x2\nfrom a\nb: conv 4 1x1\nfrom input\nc: conv 4 1x1"
    assert [reads(text, name) for name in "abc"] == [["input"], ["a"], ["input"]]


def test_labels_resolve_outward_as_far_as_the_block_saw() -> None:
    text = "a: conv 4 1x1\nblock b(w) { conv w 1x1; add(conv1, a) }\nb(4)"
    assert reads(text, "b1.add1") == ["b1.conv1", "a"]
    text = "l: repeat 2 { a: conv 4 1x1; m: repeat 1 { b: conv 4 1x1; add(a, b) } }"
    assert reads(text, "l.2.m.1.add1") == ["l.2.a", "l.2.m.1.b"]
    assert "not visible" in error("block b(w) { add(a, a) }\na: conv 4 1x1\nb(4)")
    assert "is already the name" in error("a: conv 4 1x1\nblock b(w) { a: conv w 1x1 }\nb(4)")


def test_default_lines_are_lexical() -> None:
    text = "CONV: same\nblock b() { conv 4 3x3; CONV: valid; conv 4 3x3 }\nCONV: f=5\nb()\nconv 4\nb()"
    shapes = [node(text, name).types[0].shape[0] for name in ("b1.conv1", "b1.conv2", "conv1", "b2.conv1")]
    assert shapes == [16, 14, 10, 10]
    text = "CONV: f=1\nconcat { | CONV: f=3, same; conv 4 | conv 4 }\nrepeat 1 { CONV: f=2; conv 3 }\nconv 4"
    kernels = [node(text, f"conv{number}").op.window.kernel[0] for number in (1, 2, 3, 4)]  # type: ignore[attr-defined]
    assert kernels == [3, 1, 2, 1]
    text = "block b(k) { CONV: f=k; conv 4 }\nb(3)\nb(5)"
    assert [node(text, f"b{call}.conv1").types[0].shape[0] for call in (1, 2)] == [14, 10]


def test_heads_leave_the_main_flow_as_it_was() -> None:
    found = model("a: conv 4 1x1\nhead aux1 loss=0.3 { globalavgpool; fc 10 }\nhead aux2 { fc 3 }\nconv 2 1x1")
    assert [(head.name, head.weight) for head in found.heads] == [("aux1", 0.3), ("aux2", 1.0)]
    assert [found.graph[value.node].layer for value in found.graph.outputs.values()] == [
        "conv2",
        "aux1.fc1",
        "aux2.fc1",
    ]
    assert list(found.graph.outputs) == ["output", "aux1", "aux2"]
    assert found.graph["conv2"].operands[0].node.startswith("a")


def test_assertions_behind_calls_and_repetitions() -> None:
    text = f"{UNIT}unit(4, 2) x2 => 4x4x4\nrepeat 2 {{ conv 4 1x1 }} => 4x4x4\nrelu x2 => 4x4x4"
    model(text)
    assert "`unit` gives 4x4x4, not 5x5x5" in error(text.replace("=> 4x4x4", "=> 5x5x5", 1))
    # After an error the flow goes on from the asserted shape.
    assert error(f"{UNIT}conv 4 99x99\nunit(4) => 2x2x4\nconv 4 3x3").count("error:") == 2


def test_what_depends_on_a_bad_layer_raises_nothing_more() -> None:
    assert (
        error("a: conv 4 99x99\nfrom a\nb: conv 4 1x1\nadd(a, b)\nfrom input\nadd { | conv 4 1x1 | shortcut B }").count(
            "error:"
        )
        == 1
    )
    assert error("a: conv 4 3x3 3\nadd(a, a)\nblock b( { relu }\nb()").count("error:") == 2
    assert error("block b(w) { conv w 99x99; maxpool 99x99 }\nb(4) x3\nb(8) x4").count("error:") == 1


def test_errors_show_the_calls_around() -> None:
    text = "block a(w) { conv w 99x99 }\nblock b(w) { a(w) }\nblock c(w) { b(2*w) }\nblock d() { c(1) }\nd()"
    assert error(text).splitlines()[-3:] == [
        "  in `a(w=2)`, called from line 3",
        "  ... 2 calls between",
        "  in `d()`, called from line 6",
    ]


def test_a_resnet_of_1202_layers() -> None:
    block = "block basic(w, s=1) { add { | conv w 3x3/s; conv w 3x3 linear | shortcut A } relu }"
    stages = "basic(16) x200\nbasic(32) x200 first(s=2)\nbasic(64) x200 first(s=2)"
    found = model(f"CONV: same, nobias, bn, relu\n{block}\nconv 16 3x3\n{stages}")
    assert sum(isinstance(each.op, ops.Conv) for each in found.graph.walk()) == 1201
    assert load(Source("e", expand(found))).output_shape == (4, 4, 64)
