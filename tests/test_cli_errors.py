"""Bad input of any kind: one sentence on stderr, exit status 2, never a traceback."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from cnnc.cli import main
from cnnc.cli.parser import build_parser

TINY = "model tiny\ninput 6x5x2\nconv 4 3x3\nfc 3\n"
COMMANDS = ("check", "summary", "expand", "fmt", "compile", "verify", "run", "train")
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a right program, so that messages show short names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.cnn").write_text(TINY)
    return tmp_path


def arguments(command: str, file: str) -> list[str]:
    """The shortest valid command line."""
    more = {"compile": ["-o", "out"], "run": ["--input", "x.npy"], "train": ["--data", "digits"]}
    return [command, file, *more.get(command, [])]


def failure(argv: list[str], capsys: Capture) -> str:
    """The sentence on stderr of a command that must fail."""
    try:
        status = main(argv)
    except SystemExit as stop:
        status = stop.code
    printed = capsys.readouterr()
    assert status == 2, printed
    assert printed.out == ""
    assert "Traceback" not in printed.err
    return printed.err.removeprefix("cnnc: error: ").rstrip("\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_itself(command: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"usage: cnnc {command}" in capsys.readouterr().out
    assert command in build_parser().format_help()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_file(here: Path, command: str, capsys: Capture) -> None:
    assert failure(arguments(command, "none.cnn"), capsys) == "none.cnn: no such file"


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "run"])
def test_a_folder(here: Path, command: str, capsys: Capture) -> None:
    (here / "folder").mkdir()
    assert failure(arguments(command, "folder"), capsys) == "folder is a folder, not a program"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("content", [bytes(range(256)), b"\xff\xfe\x00", b"\x00\x1b[2J(", b"model x\ninput 6x\n"])
def test_a_file_that_is_no_program(here: Path, command: str, content: bytes, capsys: Capture) -> None:
    (here / "bad.cnn").write_bytes(content)
    message = failure(arguments(command, "bad.cnn"), capsys)
    assert message.startswith("bad.cnn")
    assert message.replace("\n", "").isprintable()


# A formatter asks only that a program be well formed.
@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "fmt"])
@pytest.mark.parametrize("content", [b"", b"model x\ninput 6x5x2\nconv 4 9x9\n"])
def test_a_program_that_is_wrong(here: Path, command: str, content: bytes, capsys: Capture) -> None:
    (here / "bad.cnn").write_bytes(content)
    assert failure(arguments(command, "bad.cnn"), capsys).startswith("bad.cnn:")


def test_check_reports_every_file(here: Path, capsys: Capture) -> None:
    (here / "bad.cnn").write_text("model x\ninput 6x5x2\nconv 4 9x9\n")
    assert main(["check", "bad.cnn", "tiny.cnn", "none.cnn"]) == 2
    printed = capsys.readouterr()
    assert printed.out == "tiny.cnn: ok\n"
    assert printed.err.startswith("bad.cnn:3:")
    assert printed.err.endswith("cnnc: error: none.cnn: no such file\n")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ([], "the following arguments are required: COMMAND (see cnnc --help)"),
        (["bake"], "argument COMMAND: invalid choice"),
        (["check"], "the following arguments are required: FILE (see cnnc check --help)"),
        (["summary", "tiny.cnn", "--yaml"], "unrecognized arguments: --yaml (see cnnc --help)"),
        (["compile", "tiny.cnn"], "required: -o/--out"),
        (
            ["compile", "tiny.cnn", "-o", "d", "--dtype", "int4"],
            "'int4' is no dtype; choose from bf16, fp16, fp32, fp64",
        ),
        (["train", "tiny.cnn", "--data", "digits", "--epochs", "0"], "0 is out of range: at least 1"),
        (["train", "tiny.cnn", "--data", "digits", "--epochs", "few"], "'few' is no whole number"),
        (["train", "tiny.cnn", "--data", "digits", "--seed", "-1"], "-1 is out of range: at least 0"),
        (["run", "tiny.cnn", "--input", "x.npy", "--device", "tpu"], "invalid choice: 'tpu'"),
    ],
)
def test_wrong_arguments(argv: list[str], sentence: str, capsys: Capture) -> None:
    message = failure(argv, capsys)
    assert sentence in message
    assert "\n" not in message


@pytest.mark.parametrize("target", ["sm_9000", "toaster", ""])
def test_unknown_targets(here: Path, target: str, capsys: Capture) -> None:
    assert failure(["compile", "tiny.cnn", "-o", "out", "--target", target], capsys)
    assert not (here / "out").exists()


def test_run_checks_its_input(here: Path, capsys: Capture) -> None:
    command = ["run", "tiny.cnn", "--input", "x.npy", "--device", "cpu"]
    np.save("x.npy", np.zeros((2, 5, 6, 2)))
    message = failure(command, capsys)
    assert "2x5x6x2" in message
    assert "Nx6x5x2" in message
    x = np.zeros((2, 6, 5, 2))
    for bad in (np.nan, np.inf, 1e300):  # the last one is too large for float32
        x[1, 2, 3, 0] = bad
        np.save("x.npy", x)
        assert failure(command, capsys) == "x.npy: image 1 has pixels that are not finite numbers"
    np.save("x.npy", x[1])
    assert failure(command, capsys) == "x.npy: image 0 has pixels that are not finite numbers"
    np.save("x.npy", np.array(["text"]))
    assert "x.npy: images must be numbers" in failure(command, capsys)
    Path("x.npy").write_bytes(b"\x00" * 64)
    assert "x.npy: not a readable .npy file of numbers" in failure(command, capsys)


def test_run_checks_its_weights(here: Path, capsys: Capture) -> None:
    np.save("x.npy", np.zeros((2, 6, 5, 2)))
    Path("w.safetensors").write_bytes(b"weights")
    command = ["run", "tiny.cnn", "--input", "x.npy", "--weights"]
    assert failure([*command, "w.safetensors"], capsys).startswith("w.safetensors: not a safetensors file")
    assert failure([*command, "none.safetensors"], capsys) == "none.safetensors: No such file or directory"


def test_outputs_that_cannot_be_written(here: Path, capsys: Capture) -> None:
    np.save("x.npy", np.zeros((2, 6, 5, 2)))
    run = ["run", "tiny.cnn", "--input", "x.npy", "--device", "cpu", "-o"]
    assert "missing/y.npy: No such file or directory" in failure([*run, os.path.join("missing", "y.npy")], capsys)
    assert ".: Is a directory" in failure([*run, "."], capsys)
    np.savez("d.npz", x=np.zeros((5, 6, 5, 2)), y=np.zeros(5, int))
    train = ["train", "tiny.cnn", "--data", "d.npz", "--device", "cpu", "--out"]
    assert failure([*train, "tiny.cnn"], capsys).startswith("tiny.cnn")
    assert failure(["compile", "tiny.cnn", "-o", "tiny.cnn"], capsys).startswith("tiny.cnn")
    assert (here / "tiny.cnn").read_text() == TINY


def test_train_checks_its_data(here: Path, capsys: Capture) -> None:
    train = ["train", "tiny.cnn", "--device", "cpu", "--data"]
    np.savez("d.npz", x=np.zeros((4, 5, 6, 2)), y=np.zeros(4, int))
    assert failure([*train, "d.npz"], capsys) == "d.npz: images are 5x6x2, the network's input is 6x5x2"
    np.savez("hot.npz", x=np.zeros((4, 6, 5, 2)), y=np.eye(4, 3))
    assert "not (4, 3); classes as numbers are y.argmax(axis=1)" in failure([*train, "hot.npz"], capsys)
    assert failure([*train, "none.npz"], capsys) == "none.npz: No such file or directory"
    assert failure([*train, "mnist"], capsys).startswith("no data called 'mnist'")
    assert not (here / "runs").exists()


def test_an_earlier_run_is_not_overwritten(here: Path, capsys: Capture) -> None:
    np.savez("d.npz", x=np.zeros((5, 6, 5, 2)), y=np.zeros(5, int))
    train = ["train", "tiny.cnn", "--device", "cpu", "--data", "d.npz", "--epochs", "1"]
    assert main(train) == 0
    capsys.readouterr()
    last = os.path.join("runs", "tiny", "last.safetensors")
    assert failure(train, capsys) == f"{last} exists: go on with --resume, or give another --out"
    assert "has 1 epochs already" in failure([*train, "--resume"], capsys)
    assert failure([*train, "--resume", "--seed", "9"], capsys) == f"{last}: was trained with --seed 0, not 9"


def test_an_interrupted_run_says_how_to_go_on(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    np.savez("d.npz", x=np.zeros((5, 6, 5, 2)), y=np.zeros(5, int))
    train = ["train", "tiny.cnn", "--device", "cpu", "--data", "d.npz", "--epochs"]
    assert main([*train, "1"]) == 0
    capsys.readouterr()

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cnnc.cli.train.fit", lambda *args, **named: interrupt())
    assert main([*train, "2", "--resume"]) == 130
    last = os.path.join("runs", "tiny", "last.safetensors")
    assert capsys.readouterr().err == f"stopped; --resume goes on from {last}\n"
    assert main([*train, "2", "--out", "new"]) == 130
    assert capsys.readouterr().err == ""


def test_a_closed_standard_output(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr("sys.stdout", None)
    assert main(["expand", "tiny.cnn"]) == 2
    assert capsys.readouterr().err == "cnnc: error: standard output is closed\n"


def test_an_interrupt_is_quiet(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def interrupt(path: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cnnc.cli.check.read_source", interrupt)
    assert main(["check", "tiny.cnn"]) == 130
    assert capsys.readouterr() == ("", "")
