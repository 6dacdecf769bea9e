"""fmt and expand: what they keep, and that both give back the same program."""

from __future__ import annotations

import pytest

from cnnc.errors import ProgramError
from cnnc.frontend import expand, format_source, load, parse
from cnnc.ir.printer import print_graph
from cnnc.source import Source

EVERYTHING = """# head
model   all.of-it
input 32x32x3 ; CONV: f=3   s=1 same, nobias, bn # defaults
POOL: f=2, s=2, ceil, countpad
BN: eps=1e-3, momentum=.2
DROPOUT: 0.25
Order: CNP C5/2D
Nf: 2^3 (6)
conv -(2-4)*2^(1+1) 3x3/(1+0) pad=(1,2,1,2) groups=2 dilation=(1,2)  tanh


# between
long_label:conv 12/2 f=(3,1) same=tf linear bias nobn => 8x8x6   # behind
maxpool 3x3/2;avgpool 2x2 pad=(1,0) valid_name: relu
"""
PROGRAM = (
    EVERYTHING.replace("valid_name: relu", "").replace("=> 8x8x6", "")
    + """bn eps=1e-4; relu
BN: momentum=0.5
fc 10 bn sigmoid; dropout 0.1
bn; globalavgpool_free: fc 4 softmax
train { # open
 optimizer sgd   lr=1e-2 momentum=0.9 decay=weights # sgd
   # inner
 batch 2^5;epochs 3 } # close
# tail"""
)


def graph_of(text: str) -> str:
    return print_graph(load(Source("t", text)).graph)


def test_formatting_keeps_the_tree_the_comments_and_itself() -> None:
    formatted = format_source(Source("t", PROGRAM))
    assert parse(Source("t", formatted)) == parse(Source("t", PROGRAM))
    assert format_source(Source("t", formatted)) == formatted
    for comment in ("# head", "# defaults", "# between", "# behind", "# open", "# sgd", "# inner", "# close", "# tail"):
        assert formatted.count(comment) == 1
    assert "\n\n\n" not in formatted


def test_formatting_aligns_labels_and_assertions() -> None:
    text = "input 8x8x3\na:conv 4 3x3=>6x6x4\nlong: conv  16 3x3   relu => 4x4x16 # c\nrelu\n"
    assert format_source(Source("t", text)) == (
        "input 8x8x3\na:    conv 4 3x3        => 6x6x4\nlong: conv 16 3x3 relu  => 4x4x16  # c\n      relu\n"
    )


def test_formatting_keeps_needed_parentheses_only() -> None:
    text = (
        "input 8x8x3\nconv ((1+2))*(3)-(4-(1)) 1x1/(1+0) f=2\nconv (2^3)^1 1x1\nconv 2^(3^1) 1x1\nconv -(2)+7/(7/1) 1x1"
    )
    bodies = [line.split()[1] for line in format_source(Source("t", text)).splitlines()[1:]]
    assert bodies == ["(1+2)*3-(4-1)", "(2^3)^1", "2^3^1", "-2+7/(7/1)"]


def test_formatting_needs_syntax_only() -> None:
    assert format_source(Source("t", "conv 0 9x9")) == "conv 0 9x9\n"
    with pytest.raises(ProgramError, match="unknown layer"):
        format_source(Source("t", "cnv 0 9x9"))
    assert format_source(Source("t", "")) == ""
    assert format_source(Source("t", "\n\n# only\n\n\n# this\n")) == "# only\n\n# this\n"


def test_expanding_gives_the_same_graph_and_training() -> None:
    model = load(Source("t", PROGRAM))
    expanded = expand(model)
    again = load(Source("e", expanded))
    assert print_graph(again.graph) == print_graph(model.graph)
    assert again.train == model.train
    assert [spec.decay for spec in again.params()] == [spec.decay for spec in model.params()]
    assert expand(again) == expanded
    assert format_source(Source("e", expanded)) == expanded


def test_expanding_takes_a_source_a_program_or_a_model() -> None:
    source = Source("t", PROGRAM)
    assert expand(source) == expand(parse(source)) == expand(load(source))


def test_expanded_programs_have_no_defaults_but_bn_and_assert_shapes() -> None:
    text = expand(Source("t", "input 8x8x3\nCONV: same, relu\nPOOL: 2x2\nOrder: C3PFDS\nNf: 4\nclasses: 5\n"))
    assert text == (
        "model network\n"
        "input 8x8x3\n"
        "\n"
        "conv1_1:  conv 4 3x3 same relu  => 8x8x4\n"
        "pool1:    maxpool 2x2/2         => 4x4x4\n"
        "flatten1: flatten               => 64\n"
        "fc2:      fc 4 relu             => 4\n"
        "dropout1: dropout 0.5           => 4\n"
        "fc3:      fc 5 softmax          => 5\n"
    )
