"""The folder that ``cnnc compile`` writes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from build_modules import TEXT, copy_module

from cnnc.codegen.artifact import Artifact, check_replaceable, read_artifact, write_artifact
from cnnc.codegen.build import Binaries, build
from cnnc.errors import UsageError

ARTIFACT = Artifact("tiny", TEXT, "bfloat16", True, ("sm_90", "gfx942"), sequence=True)


def built() -> Binaries:
    return build({"infer": copy_module(), "loss": copy_module("loss", offset="2.0")}, ["sm_90", "gfx942"])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def written(tmp_path: Path) -> Path:
    write_artifact(tmp_path / "out", ARTIFACT, built())
    return tmp_path / "out"


def test_round_trip(tmp_path: Path) -> None:
    assert read_artifact(written(tmp_path)) == ARTIFACT
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["out"]


def test_what_stands_in_it(tmp_path: Path) -> None:
    folder = written(tmp_path)
    plan = json.loads((folder / "plan.json").read_text())
    files = {name for name in contents(folder) if "/" in name}
    assert len(files) == 4
    assert files == set(plan["files"]) == {kernel["file"] for kernel in plan["kernels"]}
    assert {name.split("-")[0] for name in files} == {f"{t}/{k}" for t in ARTIFACT.targets for k in ("copy", "copy_2")}
    schedule = plan["variants"]["loss"]["schedules"][0]
    (launch,) = schedule["launches"]["steps"]["conv1"]
    assert launch["kernel"] == "copy_2"
    assert launch["constants"] == {"BLOCK": 256}
    assert launch["layers"] == ["conv1"]
    assert set(launch["binaries"]) == set(ARTIFACT.targets)
    assert set(launch["binaries"].values()) <= files
    assert launch["arguments"] == [
        {"name": "x", "type": "*bf16", "buffer": 0},
        {"name": "y", "type": "*bf16", "buffer": 1},
        {"name": "n", "type": "i32", "value": {"a": 256, "b": 0, "t": 1, "c": 0}, "divisible_by_16": True},
    ]
    assert launch["grid"] == [{"rows": {"a": 256, "b": 0, "t": 1, "c": 0}, "block": 256, "times": 1}]
    assert schedule["steps"][0]["line"] == 3
    image = schedule["buffers"][0]
    assert image["axes"] == "HWNC"
    assert image["strides"]["H"] == {"a": 32, "b": 0, "t": 1, "c": 0}
    assert "def copy_2" in (folder / "kernels.py").read_text()


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    first = contents(written(tmp_path))
    write_artifact(tmp_path / "again", ARTIFACT, built())
    assert contents(tmp_path / "again") == first
    assert str(tmp_path).encode() not in b"".join(first.values())


def test_an_old_artifact_is_replaced_whole(tmp_path: Path) -> None:
    folder = written(tmp_path)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "kernels.pyc").write_bytes(b"")
    one = build({"infer": copy_module(block=512)}, ["sm_80"])
    write_artifact(folder, Artifact("tiny", TEXT, "bfloat16", False, ("sm_80",)), one)
    assert sorted(name.split("-")[0] for name in contents(folder)) == ["kernels.py", "plan.json", "sm_80/copy"]
    assert read_artifact(folder).targets == ("sm_80",)


def test_an_empty_folder_is_taken_and_missing_parents_are_made(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place in ("empty", "deep/down/out"):
        write_artifact(tmp_path / place, ARTIFACT, built())
        assert read_artifact(tmp_path / place) == ARTIFACT


def other_files(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")


def another_plan(folder: Path) -> None:
    folder.mkdir()
    (folder / "plan.json").write_text('{"format": "floor plan"}')


def results_inside(folder: Path) -> None:
    write_artifact(folder, ARTIFACT, built())
    (folder / "y.npy").write_bytes(b"results")


def a_file(folder: Path) -> None:
    folder.write_text("a file")


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (other_files, "is not empty and not the output of cnnc compile"),
        (another_plan, "is not empty and not the output of cnnc compile"),
        (results_inside, r"holds y\.npy, which cnnc compile did not write"),
        (a_file, "is a file, not a folder"),
    ],
)
def test_nothing_else_is_replaced(tmp_path: Path, prepare: Callable[[Path], None], says: str) -> None:
    prepare(tmp_path / "out")
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=says):
        check_replaceable(tmp_path / "out")
    with pytest.raises(UsageError, match=says):
        write_artifact(tmp_path / "out", ARTIFACT, built())
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before
    assert not list(tmp_path.glob(".out*"))


def test_a_failure_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(tmp_path)
    before = contents(folder)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UsageError, match="No space left on device"):
        write_artifact(folder, ARTIFACT, built())
    assert contents(folder) == before
    assert not list(tmp_path.glob(".out*"))


def remove_plan(folder: Path) -> None:
    (folder / "plan.json").unlink()


def cut_plan(folder: Path) -> None:
    text = (folder / "plan.json").read_text()
    (folder / "plan.json").write_text(text[: len(text) // 2])


def deep_plan(folder: Path) -> None:
    (folder / "plan.json").write_text("[" * 100_000)


def wrong_field(folder: Path) -> None:
    plan = json.loads((folder / "plan.json").read_text())
    (folder / "plan.json").write_text(json.dumps({**plan, "text": 3}))


def remove_kernels(folder: Path) -> None:
    (folder / "kernels.py").unlink()


def remove_binary(folder: Path) -> None:
    next(folder.rglob("*.cubin")).unlink()


def damage_binary(folder: Path) -> None:
    path = next(folder.rglob("*.hsaco"))
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (remove_plan, "has no plan.json: it is not the output of cnnc compile"),
        (cut_plan, "plan.json in .* is damaged"),
        (deep_plan, "plan.json in .* is damaged"),
        (wrong_field, "plan.json in .* is damaged"),
        (remove_kernels, "has no kernels.py"),
        (remove_binary, r"can't read sm_90/copy.*\.cubin in .*No such file"),
        (damage_binary, r"gfx942/copy.*\.hsaco in .* is damaged"),
    ],
)
def test_a_damaged_artifact_is_one_sentence(tmp_path: Path, damage: Callable[[Path], None], says: str) -> None:
    folder = written(tmp_path)
    damage(folder)
    with pytest.raises(UsageError, match=says):
        read_artifact(folder)


@pytest.mark.parametrize("name", ["missing", os.devnull])
def test_what_is_no_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"is not there|is a file, not a folder"):
        read_artifact(tmp_path / name)
