"""What each command does when all is well."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cnnc.cli import main
from cnnc.resources import resource

TINY = """\
model tiny
input 6x5x2
conv1: conv 4 3x3 relu   # the only conv
maxpool 2x2
fc 3
softmax
train {
  loss cross_entropy
  optimizer sgd lr=0.1 momentum=0.9
  batch 8; epochs 2
}
"""
VGG16 = str(resource("models", "vgg16.cnn"))


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    path = tmp_path / "tiny.cnn"
    path.write_text(TINY)
    return str(path)


@pytest.fixture
def images(tmp_path: Path) -> str:
    """Two classes told apart by brightness, and a third that never occurs."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 60)
    x = rng.standard_normal((60, 6, 5, 2)) * 0.1 + y[:, None, None, None]
    np.savez(tmp_path / "data.npz", x=x, y=y)
    return str(tmp_path / "data.npz")


def test_check_says_ok(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", tiny, VGG16]) == 0
    assert capsys.readouterr().out == f"{tiny}: ok\n{VGG16}: ok\n"


def test_summary_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", VGG16, "--json"]) == 0
    totals = json.loads(capsys.readouterr().out)["totals"]
    assert (totals["trainable"], totals["non_trainable"], totals["macs"]) == (138_357_544, 0, 15_470_264_320)


def test_summary_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", VGG16]) == 0
    out = capsys.readouterr().out
    assert "138,357,544" in out
    assert "\x1b" not in out


def test_expand_gives_the_same_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["expand", VGG16]) == 0
    expanded = tmp_path / "expanded.cnn"
    expanded.write_text(capsys.readouterr().out)
    assert "Order" not in expanded.read_text()
    summaries = []
    for path in (VGG16, str(expanded)):
        assert main(["summary", path, "--json"]) == 0
        summaries.append(capsys.readouterr().out)
    assert summaries[0] == summaries[1]


def test_fmt_prints_checks_and_writes(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(tiny).write_text(TINY.replace("conv 4 3x3 relu", "conv   4  3x3   relu"))
    assert main(["fmt", tiny, "--check"]) == 1
    assert capsys.readouterr().err == f"{tiny}: would change\n"
    assert main(["fmt", tiny]) == 0
    printed = capsys.readouterr().out
    assert "# the only conv" in printed
    assert main(["fmt", "-w", tiny]) == 0
    assert Path(tiny).read_text() == printed
    assert main(["fmt", tiny, "--check"]) == 0


def test_train_writes_checkpoints_and_a_log(
    tiny: str, images: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["train", tiny, "--data", images, "--out", str(out), "--epochs", "3", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line[:9] for line in printed[:3]] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert printed[3].startswith("validation accuracy 1.0000 (best 1.0000 after epoch")
    assert sorted(path.name for path in out.iterdir()) == ["best.safetensors", "last.safetensors", "log.jsonl"]
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [epoch["epoch"] for epoch in log] == [1, 2, 3]


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tiny: str, images: str, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    common = ["train", tiny, "--data", images, "--device", "cpu"]
    assert main([*common, "--out", str(one), "--seed", "5", "--epochs", "2"]) == 0
    assert main([*common, "--out", str(two), "--seed", "5", "--epochs", "1"]) == 0
    assert main([*common, "--out", str(two), "--resume", "--epochs", "2"]) == 0
    losses = [[json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()] for out in (one, two)]
    assert losses[0] == losses[1]


def test_run_with_trained_weights(tiny: str, images: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["train", tiny, "--data", images, "--out", str(out), "--epochs", "3", "--device", "cpu"]) == 0
    x = np.stack([np.zeros((6, 5, 2)), np.ones((6, 5, 2))])
    np.save(tmp_path / "x.npy", x)
    capsys.readouterr()
    command = ["run", tiny, "--input", str(tmp_path / "x.npy"), "--device", "cpu"]
    command += ["--weights", str(out / "last.safetensors")]
    assert main(command) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("image 0: class 0 (")
    assert second.startswith("image 1: class 1 (")
    assert main([*command, "-o", str(tmp_path / "y.npy")]) == 0
    y = np.load(tmp_path / "y.npy")
    assert y.shape == (2, 3)
    assert y.sum(axis=1) == pytest.approx([1, 1], rel=1e-6)


def test_run_takes_one_image_and_says_that_weights_are_random(
    tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", np.full((6, 5, 2), 255, np.uint8))
    assert main(["run", tiny, "--input", str(tmp_path / "x.npy"), "--device", "cpu", "--seed", "3"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("image 0: class ")
    assert printed.err == "no --weights: the parameters are random (seed 3)\n"


def test_verify_lists_every_group(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", tiny, "--json"]) == 0
    groups = json.loads(capsys.readouterr().out)
    assert {layer for group in groups for layer in group["layers"]} >= {"conv1"}


@pytest.mark.parametrize("command", ["check", "summary", "expand", "fmt"])
def test_reading_a_program_imports_nothing_heavy(tiny: str, command: str) -> None:
    script = (
        "import sys; from cnnc.cli import main; status = main(sys.argv[1:]);"
        "heavy = {'triton', 'torch', 'sklearn', 'scipy'} & set(sys.modules); sys.exit(status or str(heavy or '') or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script, command, tiny], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("option", ["--json", ""])
def test_a_reader_that_goes_away_is_no_error(option: str) -> None:
    command = ["-c", "import sys; from cnnc.cli import main; sys.exit(main(sys.argv[1:]))", "summary", str(VGG16)]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, *command, *option.split()], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
