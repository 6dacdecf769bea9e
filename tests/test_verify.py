"""``cnnc verify`` finds what is wrong: the pass, or the kernel's group."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cnnc.cli import main
from cnnc.codegen import activations
from cnnc.frontend import load
from cnnc.ir import ops
from cnnc.ir.graph import Graph
from cnnc.ir.model import Model
from cnnc.passes import pipelines
from cnnc.passes.rewrite import Rewriter
from cnnc.runtime.device import open_device
from cnnc.runtime.verify import Group, verify_model
from cnnc.source import Source

TEXT = "input 5x5x3\nconv 4 3x3 same bn relu\nadd {\n| identity\n| conv 4 3x3 same bn\n} relu\nfc 3\nsoftmax\n"


def _model() -> Model:
    return load(Source("<test>", TEXT))


def _failed(device: str = "cpu", *, train: bool) -> list[Group]:
    dtype = "float64" if device == "cpu" else "float32"
    return [
        group for group in verify_model(_model(), open_device(device, dtype), dtype, train=train) if not group.passed
    ]


def _break(monkeypatch: pytest.MonkeyPatch, name: str, change: dict[str, float], kind: type[ops.Op]) -> None:
    """Let a pass of every pipeline change an attribute of all ops of a kind."""

    def broken(step: pipelines.Pass) -> pipelines.Pass:
        def run(graph: Graph) -> Graph:
            rewriter = Rewriter(step(graph))
            for node in rewriter.old.walk():
                rewriter.copy(replace(node, op=replace(node.op, **change)) if isinstance(node.op, kind) else node)
            return rewriter.done()

        run.__name__ = name
        return run

    changed = {
        variant: tuple(broken(step) if step.__name__ == name else step for step in passes)
        for variant, passes in pipelines.PIPELINES.items()
    }
    monkeypatch.setattr(pipelines, "PIPELINES", changed)


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert _failed(train=True) == []


def test_a_pass_that_changes_a_result_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _break(monkeypatch, "fold_batchnorm", {"eps": 1e-3}, ops.FoldScale)
    failed = _failed(train=True)
    assert {(group.variant, group.name, group.kernel) for group in failed} == {("infer", "output", "fold_batchnorm")}


def test_a_pass_that_changes_a_gradient_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _break(monkeypatch, "lower_batchnorm", {"eps": 1e-3}, ops.BatchNormReduce)
    failed = _failed(train=True)
    assert {group.kernel for group in failed} == {"lower_batchnorm"}
    assert {group.variant for group in failed} == {"loss", "vjp"}
    assert any(group.name.startswith("grad:") for group in failed)


def test_a_wrong_kernel_is_named_by_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(activations.FORWARD, "relu", "tl.where({x} <= 0.5, 0.0, {x})")
    failed = _failed("interpret", train=False)
    assert failed
    assert all("activation" in group.kernel for group in failed)


def test_the_command_says_which_pass_and_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _break(monkeypatch, "fold_batchnorm", {"eps": 1e-3}, ops.FoldScale)
    path = tmp_path / "net.cnn"
    path.write_text(TEXT)
    assert main(["verify", str(path), "--device", "cpu", "--dtype", "float64"]) == 1
    assert "fold_batchnorm" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", [2, 3])
def test_gradients_that_cancel_are_no_error(batch: int, dtype: str) -> None:
    """Over two or three values a batch norm's gradient is a small rest; a bias's gradient, the sum of these, is 0."""
    model = load(Source("<test>", "input 6\nfc 5 bn tanh\nfc 3 bn"))
    for seed in range(6):
        groups = verify_model(model, open_device("cpu", dtype), dtype, train=True, batch=batch, seed=seed)
        assert [group for group in groups if not group.passed] == []
