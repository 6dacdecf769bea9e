"""``cnnc graph``: the files it writes, and what it says when it can't."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace

import pytest

from cnnc.cli import main
from cnnc.report.picture.draw import picture_text
from tests.report_networks import Net

ROOT = Path(__file__).resolve().parent.parent
LENET = str(ROOT / "models" / "lenet5.cnn")


def test_svg_png_and_dot_are_written(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for suffix in ("svg", "png", "dot", "SVG"):
        assert main(["graph", LENET, "-o", str(tmp_path / f"net.{suffix}")]) == 0
    words = " ".join(ET.parse(tmp_path / "net.svg").getroot().itertext())
    assert "5x5 conv, 6" in words
    assert "28x28x6" in words
    assert (tmp_path / "net.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "net.dot").read_text().startswith("digraph")
    assert len(list(tmp_path.iterdir())) == 4
    assert capfd.readouterr() == ("", "")


def test_the_same_network_gives_the_same_picture(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        assert main(["graph", LENET, "-o", str(tmp_path / name)]) == 0
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("name", ["net.jpg", "net", "net.svg.txt"])
def test_another_suffix_is_one_sentence(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", LENET, "-o", str(tmp_path / name)]) == 2
    assert capsys.readouterr().err == f"cnnc: error: {tmp_path / name}: a picture ends in .svg, .png or .dot\n"
    assert list(tmp_path.iterdir()) == []


def test_without_the_layout_library_dot_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    assert main(["graph", LENET, "-o", str(tmp_path / "net.svg")]) == 2
    assert "pip install 'cnnc[graph]'" in capsys.readouterr().err
    assert main(["graph", LENET, "-o", str(tmp_path / "net.dot")]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["net.dot"]


def test_a_layout_library_without_graphviz_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Graph:
        def __init__(self, string: str) -> None:
            pass

        def draw(self, format: str, prog: str) -> bytes:
            raise ValueError(f"Program {prog} not found in path.")

    monkeypatch.setitem(sys.modules, "pygraphviz", SimpleNamespace(AGraph=Graph))
    assert main(["graph", LENET, "-o", str(tmp_path / "net.svg")]) == 2
    assert "Graphviz can't draw a picture as .svg: Program dot not found" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_words_of_the_program_are_escaped(tmp_path: Path) -> None:
    net = Net(4, 4, 1, name='a"b<c>&\\')
    text = picture_text(net.model(net.conv("c<1>&", net.x, 1, 1)))
    assert "c&lt;1&gt;&amp;" in text
    assert 'label="a\\"b<c>&\\\\:' in text
