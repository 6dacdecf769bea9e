"""Golden errors: a program in, all its diagnostics out. ``pytest --update`` writes the texts anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cnnc.errors import ProgramError
from cnnc.frontend import load
from cnnc.source import Source

FOLDER = Path(__file__).parent / "errors"
PROGRAMS = sorted(FOLDER.glob("*.cnn"))


def errors_of(text: str, name: str = "t.cnn") -> str:
    with pytest.raises(ProgramError) as caught:
        load(Source(name, text))
    return str(caught.value)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_diagnostics(path: Path, golden: Callable[[Path, str], None]) -> None:
    golden(path.with_suffix(".txt"), errors_of(path.read_text(encoding="utf-8"), path.name) + "\n")


def test_no_orphans() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == {path.stem for path in PROGRAMS}


def test_the_example_of_the_design() -> None:
    text = "input 224x224x3\n\nCONV: same\nconv 512 3x3\n\npool5: maxpool 32x32/32 f=2\n"
    assert "contradicts" in errors_of(text)
    text = "input 7x7x3\nconv 512 3x3 same\n\n\n\npool5: maxpool 1x1\nconv 512 9x9\n"
    assert errors_of(text, "vgg.cnn") == (
        "vgg.cnn:7:10: error: kernel 9x9 does not fit its input 7x7x512 (pad 0)\n"
        "    conv 512 9x9\n"
        "             ^^^\n"
        "  the input is the output of `pool5` (line 6); pad=1 or `same` would make it fit"
    )


def test_padding_that_the_hint_proposes_fits() -> None:
    for kernel in (8, 9, 10, 13):
        text = f"input 7x7x1\nconv 1 {kernel}x{kernel}"
        pad = int(errors_of(text).split("pad=")[1].split(" ")[0])
        load(Source("t", f"{text} pad={pad}"))
        assert "does not fit" in errors_of(f"{text} pad={pad - 1}")


def test_a_failed_layer_silences_what_depends_on_it() -> None:
    text = "input 8x8x3\nconv 4 9x9\nmaxpool 2x2\nconv 4 20x20 => 5x5x4\nconv 4 6x6\n"
    found = errors_of(text)
    assert found.count("error:") == 2
    assert "t.cnn:2:8" in found
    assert "t.cnn:5:8" in found


def test_a_broken_default_line_silences_its_kind_only() -> None:
    found = errors_of("input 8x8x3\nCONV: f=\nPOOL: 2x2\nconv 4\nmaxpool\nfc 0\n")
    assert found.count("error:") == 2
    assert "unexpected end of the line" in found
    assert "a width must be at least 1" in found


def test_parsing_goes_on_inside_train_and_behind_braces() -> None:
    text = "input 8x8x3\nblock b(w) {\n conv w 3x3; nonsense\n}\ntrain {\n foo\n batch 0 }\nbar 3\n"
    assert lines_of(errors_of(text)) == [3, 6, 7, 8]


def test_parsing_goes_on_behind_arms() -> None:
    text = """input 8x8x3
    add { | conv 3 1x1 | foo 1 | bar 2; baz 3 | relu } relu
    concat {
    | conv 3 1x1 connect=[1 2 | 3
      wrong | 4 ]
    | relu
    | repeat 2 { repeat 3 { foo 1 } bar 2 }
    }
    mul {
      no bar
      add { | relu | foo }
    } relu
    block b(w { add { | relu
    } }
    repeat 2 { relu
    bar 3"""
    assert lines_of(errors_of(text)) == [2, 2, 2, 5, 7, 7, 10, 13, 15, 16]
    assert lines_of(errors_of("input 8x8x3\nadd(input, 0.5 *2*input)\nbar 3")) == [2, 3]


def lines_of(found: str) -> list[int]:
    return [int(line.split(":")[1]) for line in found.splitlines() if "error:" in line]
