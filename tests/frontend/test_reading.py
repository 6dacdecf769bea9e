"""From a path or text to a source, or a sentence that says why not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cnnc.errors import UsageError
from cnnc.frontend import read_source
from cnnc.frontend.reading import MAX_BYTES, TEXT_NAME


def test_a_file_by_path_or_string(tmp_path: Path) -> None:
    path = tmp_path / "net.cnn"
    path.write_bytes(b"\xef\xbb\xbfinput 8x8x3\r\nrelu\rtanh\n")
    assert read_source(path).text == read_source(str(path)).text == "input 8x8x3\nrelu\ntanh\n"
    assert read_source(path).name == str(path)


def test_text_is_text() -> None:
    assert read_source("input 8x8x3\nrelu").name == TEXT_NAME
    assert read_source("no such file").text == "no such file"
    assert read_source("").text == ""
    assert read_source("a\0b").text == "a\0b"


@pytest.mark.parametrize("name", ["missing.cnn", "missing/below.cnn"])
def test_missing_files(tmp_path: Path, name: str) -> None:
    for path in (tmp_path / name, str(tmp_path / name)):
        with pytest.raises(UsageError, match="no such file"):
            read_source(path)


def test_shipped_models_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_source("models/lenet5.cnn") == read_source(Path("models/lenet5.cnn"))
    assert "model lenet5" in read_source("models/lenet5.cnn").text
    for name in ("models/none.cnn", "lenet5.cnn", "below/models/lenet5.cnn", "models/../pyproject.toml"):
        with pytest.raises(UsageError, match="no such file"):
            read_source(Path(name))
    (tmp_path / "models").mkdir()
    (tmp_path / "models/lenet5.cnn").write_text("model mine")
    assert read_source("models/lenet5.cnn").text == "model mine"


def test_folders_binary_and_large_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        read_source(tmp_path)
    binary = tmp_path / "weights.cnn"
    binary.write_bytes(b"input \xff\xfe")
    with pytest.raises(UsageError, match="is not text: byte 6"):
        read_source(binary)
    large = tmp_path / "large.cnn"
    large.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(UsageError, match="larger than"):
        read_source(large)
    with pytest.raises(UsageError, match="larger than"):
        read_source("\n" * (MAX_BYTES + 1))


def test_odd_paths() -> None:
    with pytest.raises(UsageError, match="can't be read"):
        read_source(Path("a\0b.cnn"))
    with pytest.raises(UsageError, match="larger than"):
        read_source(Path(os.devnull).parent / "zero")
