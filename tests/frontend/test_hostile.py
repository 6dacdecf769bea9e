"""Texts that no person wrote: a right answer or an error, never a traceback; bounded work, not timed here."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnc.errors import CnnError
from cnnc.frontend import ast, expand, format_source, load, parse, read_source
from cnnc.frontend.order import MAX_LAYERS
from cnnc.frontend.parser import MAX_TOKENS
from cnnc.ir.printer import print_graph
from cnnc.source import Source

HEAD = "input 224x224x3\n"
MEMORY = 200 * 2**20  # bytes of Python objects for one text

_TWICE = [f"block a{i}() {{ a{i - 1}() x2 }}\n" for i in range(1, 40)] + ["a39()"]
_TOWER = [f"block a{i}() {{ a{i - 1}() }}\n" for i in range(1, 100)] + ["a99()"]

REFUSED = {
    "empty": ("", "needs its input's shape"),
    "comment": ("# nothing else", "needs its input's shape"),
    "binary": ("\x00\x01\x02;\x03{}", r"U\+0000"),
    "ten megabytes of C": ("C" * 10_000_000, "larger than"),
    "a megabyte of C": ("C" * 999_999, "unknown layer `CCCC"),
    "an order of a megabyte": (f"{HEAD}CONV: f=1\nNf: 3\nOrder: {'C' * 900_000}", "more than 10,000 layers"),
    "huge power": (f"{HEAD}conv 2^9999999 3x3", "number larger than"),
    "power tower": (f"{HEAD}conv {'9^' * 5000}9 3x3", "nested operators"),
    "long sum": (f"{HEAD}conv {'1+' * 5000}1 3x3", "nested operators"),
    "long number": (f"{HEAD}conv {'9' * 900_000} 3x3", "number larger than"),
    "long size": (f"{HEAD}conv 3 {'3x' * 200_000}3", "a kernel has a height and a width"),
    "many parentheses": (f"{HEAD}conv {'(' * 900_000}", "longer than 40,000 words"),
    "zero stride": (f"{HEAD}conv 3 3x3/0", "stride must be at least 1"),
    "large kernel": (f"{HEAD}conv 3 300x3", "kernel 300x3 does not fit its input 224x224x3"),
    "unknown letter": (f"{HEAD}Nf: 3\nCONV: f=3\nOrder: CQ", "unknown letter `Q`"),
    "missing width": (f"{HEAD}Nf: 3\nCONV: f=3\nOrder: C C", "the word `C` has no width"),
    "many layers": (HEAD + "relu\n" * (MAX_LAYERS + 1), "more than 10,000 layers"),
    "many words": (HEAD + "conv 3 3x3\n" * MAX_TOKENS, "longer than 40,000 words"),
    "many errors": (HEAD + "foo\n" * 200_000, "and 80 more errors"),
    "many braces": (HEAD + "{" * 900_000, "unexpected `{`"),
    "closing braces": (HEAD + "}\n" * 100_000, "`}` without a `{`"),
    "large weights": (f"{HEAD}fc 2^30", "would have 1.6e[+]14 weights"),
    "large input": ("input 999999999x999999999x9\nrelu", "too large"),
    "large rate": (f"{HEAD}dropout 1e999999", "must be between 0 and 1"),
    "labels": ("a:" * 100_000, "unknown layer `a`"),
    "exponential": (f"{HEAD}block a0() {{ relu }}\n" + "".join(_TWICE), "more than 40,000 statements"),
    "exponential nothing": (f"{HEAD}block a0() {{ }}\n" + "".join(_TWICE), "more than 40,000 statements"),
    "a tower of blocks": (f"{HEAD}block a0() {{ }}\n" + "".join(_TOWER), "inside each other"),
    "many turns": (f"{HEAD}repeat 2^30 {{ }}", "more than 40,000 statements"),
    "many nested turns": (f"{HEAD}repeat 9999 {{ repeat 9999 {{ }} }}", "more than 40,000 statements"),
    "many layers of one statement": (f"{HEAD}conv 3 1x1 bn relu x2147483647", "more than 10,000 layers"),
    "many copies": (f"{HEAD}conv 3 1x1 x{'9' * 10_000}", "number larger than"),
    "many layers of an argument": (f"{HEAD}block a(n) {{ repeat n {{ fc 3 }} }}\na(10001)", "more than 10,000 layers"),
    "many operands": (
        f"{HEAD}l: repeat 5000 {{ s: relu }}\nrepeat 4000 {{ add(l.*.s) }}",
        "more than 40,000 statements",
    ),
    "deep braces": (f"{HEAD}{'repeat 1 { ' * 5000}relu{' }' * 5000}", "more than 50 braces"),
    "deep arms": (f"{HEAD}{'add { | relu | ' * 5000}", "more than 50 braces"),
    "deep labels": (f"{HEAD}a{'.a' * 100_000}: relu", "more than 100 points"),
    "deep references": (f"{HEAD}from a{'.a' * 100_000}", "no layer"),
    "deep stars": (f"{HEAD}l: repeat 9 {{ relu }}\nadd(l{'.*' * 100_000})", "matches nothing"),
    "unknown blocks": (HEAD + "".join(f"block b{i} {{ b{i + 1}() }}\n" for i in range(3000)), "defined only in line"),
    "a chain of blocks": (
        HEAD + "".join(f"block b{i} {{ b{(i + 1) % 3000}() }}\n" for i in range(3000)),
        "calls itself",
    ),
    "many arguments": (f"{HEAD}block a(n) {{ relu }}\na({'1,' * 9000}1)", "takes 1 argument, not 9001"),
    "a long literal": (f"{HEAD}conv 3 1x1 connect=[{'1 ' * 39_000}", "unexpected end"),
}

ACCEPTED = {
    "byte order mark": f"\N{BYTE ORDER MARK}{HEAD}conv 3 3x3",
    "crlf": "input 8x8x3\r\nconv 3 3x3  # c\r\nmaxpool 2x2\r\n",
    "cr": "input 8x8x3\rconv 3 3x3",
    "parentheses": f"{HEAD}conv {'(' * 5000}3{')' * 5000} 3x3 => 222x222x3",
    "blank lines": f"{HEAD}{chr(10) * 900_000}relu",
    "semicolons": f"{HEAD}{';' * 900_000}relu",
    "a long comment": f"{HEAD}#{'#' * 900_000}\nrelu",
    "exponents of one": f"{HEAD}conv 1^2147483647+0^0+(1-2)^2147483646 1x1 => 224x224x3",
    "deep network": HEAD + "relu\n" * (MAX_LAYERS // 4),
    "forty braces": f"{HEAD}{'repeat 1 { ' * 40}relu{' }' * 40}",
    "forty arms": f"{HEAD}{'add { | relu | ' * 40}tanh{' }' * 40}",
    "forty calls": f"{HEAD}block a0() {{ relu }}\n" + "".join(_TOWER[:40]) + "a40()",
    "a thousand blocks": HEAD
    + "block b0 { relu }\n"
    + "".join(f"block b{i} {{ relu }}\n" for i in range(1, 999))
    + "b9()",
    "a long sum": f"{HEAD}l: repeat 500 {{ s: relu }}\nadd(l.*.s)",
    "non-breaking spaces": "input\u00a08x8x3\nconv\u00a03 3x3",
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    text, message = REFUSED[name]
    tracemalloc.start()
    try:
        with pytest.raises(CnnError, match=message) as caught:
            load(read_source(text))
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 20_000


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str) -> None:
    source = read_source(ACCEPTED[name])
    graph = print_graph(load(source).graph)
    assert print_graph(load(Source("f", format_source(source))).graph) == graph


WORDS = [
    *("block", "b(", "b()", "add {", "concat {", "mul(", "|", "}", "shortcut B", "identity", "repeat 2 {", "x2", "l:"),
    *("from", "head h {", "add(", "a.b", "a.*", "i=1..2", "first(", "last(", "[", "]", '"', "use", "loss=0.5", "0.5 *"),
    *("model", "input", "conv", "maxpool", "avgpool", "globalavgpool", "fc", "bn", "dropout", "flatten", "relu"),
    *(
        "softmax",
        "train",
        "loss",
        "optimizer",
        "sgd",
        "batch",
        "epochs",
        "same",
        "same=tf",
        "valid",
        "pad=",
        "f=",
        "s=",
    ),
    *("groups=", "dilation=", "nobias", "bn", "nobn", "linear", "ceil", "countpad", "CONV:", "POOL:", "FC:", "BN:"),
    *("DROPOUT:", "Order:", "Nf:", "classes:", "CCP", "FFS", "C1/2", "3x3", "8x8x3", "2^3", "1", "2", "3", "0", "0.5"),
    *(
        "(",
        ")",
        ",",
        "+",
        "-",
        "*",
        "/",
        "^",
        "{",
        "}",
        "=>",
        ":",
        ";",
        "\n",
        "#",
        "1e-3",
        "a",
        "x3",
        "eps=1e-3",
        "lr=",
    ),
]


def check(text: str) -> None:
    """Text gives an AST or a CnnError; what loads is the same after fmt and expand."""
    source = Source("t", text)
    try:
        program = parse(source)
    except CnnError:
        program = None
    if program is not None:
        assert isinstance(program, ast.Program)
        formatted = format_source(source)
        assert parse(Source("t", formatted)) == program
        assert format_source(Source("t", formatted)) == formatted
    try:
        model = load(source)
    except CnnError:
        return
    graph = print_graph(model.graph)
    assert print_graph(load(Source("e", expand(model))).graph) == graph


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(max_size=200))
def test_random_text(text: str) -> None:
    check(text)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(WORDS), max_size=40))
def test_random_words(words: list[str]) -> None:
    check(" ".join(words))


STATEMENTS = (
    "conv 4 3x3 same relu",
    "conv 2^3 1x1 bn nobias",
    "a: conv 6 3x3/2 same=tf groups=2",
    "maxpool 2x2 # pool",
    "avgpool 3x3/1 pad=1 countpad",
    "fc 5 tanh",
    "dropout",
    "bn eps=1e-4",
    "relu; sigmoid",
    "CONV: nobias, bn",
    "BN: momentum=0.3",
    "globalavgpool",
    "flatten",
    "softmax",
    "",
    "# remark",
    "Order: C3P FS",
    "Nf: 4 4",
    "classes: 3",
    "train { batch 2 # two\n epochs 3 }",
    "block b(w, act=relu) { # block\n conv w 3x3 same act; s: conv w 1x1 }",
    "b(4)",
    "c: b(3, act=tanh) x2 last(w=4)",
    "add { | shortcut B | conv 4 3x3/2 same }",
    "m: concat {\n| identity # arm\n| 0.5 * conv 2 1x1; bn\n} relu",
    "repeat 2 { relu; CONV: same }",
    "l: repeat i=1..2 { b(i) }",
    "add(l.*.s)",
    "concat(m, -0.5*c)",
    "from m",
    "from input",
    "head h { globalavgpool; fc 3 }",
    "mul { | sigmoid | identity }",
    "conv 4 1x1 x2 => 16x16x4",
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(STATEMENTS), max_size=10))
def test_random_programs(statements: list[str]) -> None:
    check("input 16x16x4\n" + "\n".join(statements))
