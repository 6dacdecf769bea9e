"""Training in less memory: the same numbers from parts of the forward pass computed again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cnnc
from cnnc.cli import main
from cnnc.frontend import load, read_source
from cnnc.ir import ops
from cnnc.ir.model import Model
from cnnc.passes.budget import SEGMENTS, Budget, plan_within, step_bytes
from cnnc.passes.pipelines import compile_plan, meaning, optimise
from cnnc.passes.recompute import recompute
from cnnc.runtime.compare import output_errors
from cnnc.runtime.oracle import evaluate
from cnnc.runtime.scalars import Scalars
from cnnc.runtime.verify import random_inputs, random_params
from cnnc.source import Source

MODELS = Path(__file__).parent.parent.parent / "models"
BLOCKS = (
    "CONV: same, nobias, bn, relu\n"
    "block basic(w, s=1) { add {\n| conv w 3x3/s; conv w 3x3 linear\n| shortcut B\n} relu }\n"
)
DENSE = "repeat 4 { concat { | identity | bn relu; conv 4 3x3 same nobias } }\n"
PROGRAMS = {
    "a chain": "input 9x9x3\nconv 4 3x3 relu\nmaxpool 2x2\ndropout 0.3\nconv 5 3x3 tanh\nfc 6 relu\ndropout 0.5\nfc 3",
    "residuals": f"input 8x8x3\n{BLOCKS}basic(4) x2\nbasic(6, s=2)\nbasic(6) x2\nglobalavgpool\nfc 5",
    "a dense block": f"input 6x6x3\n{DENSE}globalavgpool\nfc 3",
    "a head": "input 6x6x3\nconv 4 3x3 bn relu\nhead h loss=0.3 { fc 3 }\nconv 4 3x3 bn relu\nconv 5 1x1 relu\nfc 3",
    "one layer": "input 5\nfc 3",
}


def _model(text: str) -> Model:
    return load(Source("<test>", text))


@pytest.mark.parametrize("variant", ["loss", "vjp"])
@pytest.mark.parametrize("segments", [2, 3, 7])
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_same_values_and_gradients(name: str, segments: int, variant: str) -> None:
    model, scalars = _model(PROGRAMS[name]), Scalars(3, seed=4, step=2)
    before = meaning(model, variant)
    after = optimise(model, variant, segments=segments)
    params, inputs = random_params(model, 4), random_inputs(before, 3, 4)
    reference = evaluate(before, inputs, params, scalars=scalars)
    values = evaluate(after, inputs, params, scalars=scalars)
    assert max(output_errors(before, reference, after, values).values()) <= 1e-12


def test_what_is_computed_again() -> None:
    """All but the last segment, once; statistics and running statistics never."""
    graph = meaning(_model(PROGRAMS["residuals"]), "loss")
    again = [node for node in recompute(graph, 3).walk() if node.name.endswith(".again")]
    assert again
    convs = [node.name for node in again if isinstance(node.op, ops.Conv)]
    forward = [node.name for node in graph.walk() if isinstance(node.op, ops.Conv)]
    assert 0 < len(convs) < len(forward)
    assert not any(isinstance(node.op, ops.BatchNormUpdate) for node in again)
    assert recompute(graph, 1) is graph
    inference = meaning(_model(PROGRAMS["residuals"]), "infer")
    assert recompute(inference, 3) is inference


@pytest.mark.parametrize("name", ["resnet20_cifar", "densenet_bc100_cifar"])
def test_memory_falls(name: str) -> None:
    model = load(read_source(MODELS / f"{name}.cnn"))
    plans = [compile_plan(model, "loss", "sm_90", "bfloat16", segments=segments) for segments in (1, 4)]
    whole, less = (plan.schedule(64).work.at(64) for plan in plans)
    assert less < {"resnet20_cifar": 0.7, "densenet_bc100_cifar": 0.8}[name] * whole


def test_a_budget_is_kept_or_refused() -> None:
    model = load(read_source(MODELS / "resnet20_cifar.cnn"))
    settings = ("loss", "cpu", "float32")
    whole = step_bytes(plan_within(model, *settings, None), 32)
    smallest = min(step_bytes(compile_plan(model, *settings, segments=segments), 32) for segments in SEGMENTS)
    budget = (whole + smallest) // 2
    assert step_bytes(plan_within(model, *settings, Budget(budget, 32)), 32) <= budget
    with pytest.raises(
        cnnc.CnnError, match=f"on 32 images takes at least {smallest:,} bytes, more than the budget of 1,000"
    ):
        plan_within(model, *settings, Budget(1000, 32))


def test_training_in_a_budget_is_the_same_training() -> None:
    text = "train { optimizer sgd lr=0.05 momentum=0.9\n batch 8 }\n" + PROGRAMS["residuals"]
    whole = cnnc.compile(text, device="cpu", dtype="float64", training=True)
    arenas = sum(whole.memory(8, training=True)[key] for key in ("params", "grads", "momentum", "state", "input"))
    need = whole.memory(8, training=True)["work"]
    less = cnnc.compile(text, device="cpu", dtype="float64", training=True, memory_budget=arenas + int(0.8 * need))
    assert less.memory(8, training=True)["work"] <= 0.8 * need + 4096  # outputs are in the budget too
    rng = np.random.default_rng(0)
    for _ in range(5):
        x, target = rng.standard_normal((8, 8, 8, 3)), rng.integers(0, 5, 8)
        assert less.train_step(x, target) == pytest.approx(whole.train_step(x, target), rel=1e-12)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.cnn"
    path.write_text(PROGRAMS["residuals"])
    assert main(["explain", str(path), "--train", "--memory-budget", "1KB"]) == 2
    assert "more than the budget of 1,000" in capsys.readouterr().err
    assert main(["explain", str(path), "--train", "--memory-budget", "1 GB", "--json"]) == 0
    with pytest.raises(SystemExit):
        main(["explain", str(path), "--train", "--memory-budget", "much"])
    assert "no size of memory" in capsys.readouterr().err
