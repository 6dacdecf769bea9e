"""``use``: where files are looked for, what they give, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnc.errors import ProgramError
from cnnc.frontend import load, read_source, used_files
from cnnc.ir.printer import print_graph
from cnnc.source import Source

BLOCKS = "model blocks\nCONV: same, nobias\nblock unit(w) { conv w 3x3 }\nblock two(w) { unit(w) x2 }\n"
MAIN = 'input 8x8x3\nCONV: f=1, relu\nuse "blocks.cnn"\na: two(4)\nconv 4\n'


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.cnn").write_text(text, encoding="utf-8")
    return folder / "main.cnn"


def error(path: Path) -> str:
    with pytest.raises(ProgramError) as caught:
        load(read_source(path))
    return str(caught.value).replace(str(path.parent), "DIR")


def test_blocks_come_with_their_own_defaults_and_leave_none(tmp_path: Path) -> None:
    calls = "".join(f"a.unit{call}.conv1: conv 4 3x3 same nobias\n" for call in (1, 2))
    inline = f"input 8x8x3\n{calls}conv1: conv 4 1x1 relu"
    graph = load(read_source(write(tmp_path, main=MAIN, blocks=BLOCKS))).graph
    assert print_graph(graph) == print_graph(load(Source("t", inline)).graph)


def test_a_file_gives_only_its_own_blocks_and_is_read_once(tmp_path: Path) -> None:
    more = 'use "blocks.cnn"\nblock more(w) { two(w) }\n'
    path = write(
        tmp_path, main='use "more.cnn"\nuse "blocks.cnn"\ninput 8x8x3\nmore(4); two(4)', more=more, blocks=BLOCKS
    )
    assert len(load(read_source(path)).listed()) == 4
    write(tmp_path, main='use "more.cnn"\ninput 8x8x3\nmore(4); two(4)')
    assert "no block `two` is defined before this line" in error(path)


def test_subfolders_use_from_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    write(tmp_path / "lib", one='use "two.cnn"\nblock one() { two() }', two="block two() { relu }")
    load(read_source(write(tmp_path, main='use "lib/one.cnn"\ninput 8\none()')))


def test_installed_models_are_found_for_texts_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, blocks=BLOCKS)
    monkeypatch.setattr(used_files, "resource", lambda _: tmp_path)
    assert len(load(Source("<text>", MAIN)).listed()) == 4
    other = tmp_path / "other"
    other.mkdir()
    assert len(load(read_source(write(other, main=MAIN))).listed()) == 4


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/etc/blocks.cnn", "is an absolute path"),
        ("C:/blocks.cnn", "is an absolute path"),
        ("../blocks.cnn", "without `..`"),
        ("lib/../../blocks.cnn", "without `..`"),
        ("..\\\\blocks.cnn", "without `..`"),
        ("blocks.txt", "must end in .cnn"),
        ("", "must end in .cnn"),
        ("missing.cnn", "no file `missing.cnn` beside this file or among the installed models"),
        ("folder.cnn", "no file `folder.cnn`"),
        ("link.cnn", "leads out of its folder"),
        ("linked/blocks.cnn", "leads out of its folder"),
    ],
)
def test_refused_paths(tmp_path: Path, path: str, message: str) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    write(outside, blocks=BLOCKS)
    (inside / "folder.cnn").mkdir()
    (inside / "link.cnn").symlink_to(outside / "blocks.cnn")
    (inside / "linked").symlink_to(outside)
    found = error(write(inside, main=f'input 8x8x3\nuse "{path}"\nunit(4)\n'))
    assert message in found
    assert found.count("error:") == 1  # the missing block is the same error


def test_links_inside_the_folder_are_fine(tmp_path: Path) -> None:
    path = write(tmp_path, main=MAIN.replace("blocks", "link"), blocks=BLOCKS)
    (tmp_path / "link.cnn").symlink_to("blocks.cnn")
    load(read_source(path))


def test_cycles_show_their_chain(tmp_path: Path) -> None:
    path = write(tmp_path, main='use "a.cnn"\ninput 8\nrelu', a='use "b.cnn"', b='use "c.cnn"', c='use "a.cnn"')
    assert error(path) == (
        "DIR/c.cnn:1:1: error: `a.cnn` uses itself\n"
        '    use "a.cnn"\n'
        "    ^^^^^^^^^^^\n"
        "  a.cnn uses b.cnn uses c.cnn uses a.cnn"
    )
    assert "main.cnn uses main.cnn" in error(write(tmp_path, main='use "main.cnn"\ninput 8\nrelu'))


def test_a_used_file_holds_blocks_only(tmp_path: Path) -> None:
    path = write(tmp_path, main=MAIN, blocks=BLOCKS + "input 3x3x3\nrelu")
    assert "`blocks.cnn` has more than blocks and their defaults: line 5" in error(path)


def test_errors_name_the_right_file(tmp_path: Path) -> None:
    blocks = BLOCKS.replace("conv w 3x3", "conv w 3x3; conv w 99x99 valid") + "block bad( { relu }\n"
    found = error(write(tmp_path, main=MAIN + "conv 0\n", blocks=blocks))
    assert [line.split(": error")[0] for line in found.splitlines() if "error:" in line] == [
        "DIR/blocks.cnn:3:36",
        "DIR/blocks.cnn:5:12",
        "DIR/main.cnn:6:6",
    ]
    assert "  in `unit(w=4)`, called from line 4\n  in `two(w=4)`, called from DIR/main.cnn:4" in found


def test_a_block_of_two_files(tmp_path: Path) -> None:
    path = write(tmp_path, main='use "a.cnn"\nuse "blocks.cnn"\ninput 8\nunit(3)', a=BLOCKS, blocks=BLOCKS)
    assert "`blocks.cnn` has a block `unit`, which is defined in DIR/a.cnn:3" in error(path)


def test_many_files_are_refused(tmp_path: Path) -> None:
    count = used_files.MAX_FILES + 1
    files = {f"f{number}": f'use "f{number + 1}.cnn"\n' for number in range(count)}
    path = write(tmp_path, main='use "f0.cnn"\ninput 8\nrelu', **files)
    assert f"more than {used_files.MAX_FILES} files" in error(path)


def test_unreadable_text(tmp_path: Path) -> None:
    path = write(tmp_path, main=MAIN)
    (tmp_path / "blocks.cnn").write_bytes(b"\xff\xfe")
    assert "is not text" in error(path)
