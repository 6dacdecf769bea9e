"""fmt and expand of structure: the same program, comments kept."""

from __future__ import annotations

from cnnc.frontend import expand, format_source, load, parse
from cnnc.ir.model import Model
from cnnc.ir.printer import print_graph
from cnnc.source import Source


def model(text: str) -> Model:
    return load(Source("t", f"input 16x16x4\n{text}"))


EVERYTHING = """CONV: same, nobias, bn, relu
block basic(w, s=1, act=relu) { # a block
  add {
  | conv w 3x3/s; conv w 3x3 linear # the main arm
  | shortcut A
  } act
}
block bottle(w, s=1) {
  add { | conv w 1x1/s; conv 2*w 1x1 linear; CONV: nobias; conv 2*w 1x1 | shortcut B } relu
}
stem: conv 4 3x3 => 16x16x4
a: basic(4) x2
b: basic(8) x2 first(s=2) last(act=tanh) => 8x8x8
BN: eps=1e-4
head aux loss=0.25 { # a head

  globalavgpool
  # inside
  x: fc 5; relu
}
c: bottle(8)
d: bottle(8)
l: repeat i=0..2 { skip: conv 16 3x3 dilation=2^i; dropout 0.1 }
m: add(l.*.skip, 0.5 * c,-2*d) elu(0.5)
mul { | identity | conv 16 1x1 sigmoid | from m; relu }
concat {
| identity
| 0.2 * conv 4 1x1; repeat 2 {
    conv 4 3x3
    add(stem, stem)
    from m
  }
| maxpool 3x3/1 same;

  conv 3 1x1 x2
}
from a
"""


def test_expanding_gives_the_same_graph() -> None:
    found = model(EVERYTHING)
    text = expand(found)
    again = load(Source("e", text))
    assert print_graph(again.graph) == print_graph(found.graph)
    assert again.heads == found.heads
    assert expand(again) == text
    assert format_source(Source("e", text)) == text


def test_expanded_shortcuts_are_what_they_became() -> None:
    block = "block b(w, s, o=1) { add { | conv w 3x3/s same | shortcut A } }"
    text = expand(model(f"{block}\nb(4, 1)\nb(6, 2)\nadd {{ | conv 6 1x1 | shortcut C }}"))
    assert "b1.add1:      add(b1.conv1, input)" in text
    assert "b2.shortcut1: shortcut A s=2 width=6" in text
    assert "shortcut1:    conv 6 1x1" in text


def test_formatting_keeps_structure_and_comments() -> None:
    source = Source("t", f"input 16x16x4\n{EVERYTHING}")
    formatted = format_source(source)
    assert parse(Source("t", formatted)) == parse(source)
    assert format_source(Source("t", formatted)) == formatted
    for comment in ("# a block", "# the main arm", "# a head", "# inside"):
        assert formatted.count(comment) == 1


def test_formatting_indents_bodies_and_aligns_arms() -> None:
    text = """block b( w,act = relu ){
add { # arms
 |conv w 3x3;conv 4*w 1x1 linear
    # between
 | 0.2*identity
   } act
  }
l:repeat i=0..3{b(2^i,act=elu( 0.5 )) x2 first( w=1 )}
long: b(3)=>3x3x3
t: conv 4 3x3 connect=[
1 2 |  # one
 3 4
]/2 relu
"""
    assert (
        format_source(Source("t", text))
        == """block b(w, act=relu) {
  add {  # arms
  | conv w 3x3; conv 4*w 1x1 linear
  # between
  | 0.2 * identity
  } act
}
l:    repeat i=0..3 { b(2^i, act=elu(0.5)) x2 first(w=1) }
long: b(3)  => 3x3x3
t: conv 4 3x3 connect=[
  1 2 |  # one
  3 4
]/2 relu
"""
    )
