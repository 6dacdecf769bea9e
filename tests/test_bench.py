"""``cnnc bench``: what it prints, and that PyTorch's side computes the same network. Nothing here is timed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cnnc.cli import main
from cnnc.errors import CnnError, UsageError
from cnnc.ir import ops
from cnnc.ir.graph import Value
from cnnc.ir.model import Model
from cnnc.ir.params import Init, ParamSpec, conv_spec, linear_spec, vector_spec
from cnnc.ir.window import Window
from cnnc.passes.training_mode import inference_mode
from cnnc.report import bench
from cnnc.report.torch_peer import TorchPeer
from cnnc.runtime.init import initial_values
from cnnc.runtime.oracle import evaluate
from cnnc.runtime.scalars import Scalars
from tests.report_networks import Net

TOLERANCE = 1e-5  # relative L2, float32 against the float64 oracle
LENET = "models/lenet5.cnn"
ROOT = Path(__file__).resolve().parent.parent


def test_json_has_times_versions_and_date(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "MOST", 1)
    assert main(["bench", str(ROOT / LENET), "--against", "torch", "--train", "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert {"date", "system", "cores", "versions", "programs"} == set(found)
    assert {"python", "cnnc", "numpy", "torch"} <= set(found["versions"])
    (program,) = found["programs"]
    assert (program["name"], program["layers"]) == ("lenet5", 8)
    assert program["variants"] == ["infer", "forward", "loss", "vjp", "update"]
    assert program["text_to_plan_ms"] > 0
    times = program["forward"]["torch"]
    assert times["ratio"] == pytest.approx(times["torch_ms"] / times["cnnc_ms"])
    assert captured.err == ""


def test_the_table_names_every_program(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "MOST", 1)
    assert main(["bench", str(ROOT / LENET), str(ROOT / "models/mnist_9_16.cnn")]) == 0
    captured = capsys.readouterr()
    assert "lenet5" in captured.out
    assert "mnist_9_16" in captured.out
    assert "plans: infer" in captured.out
    assert "timing" in captured.err


def test_wrong_files_and_peers_are_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["bench", "nothing.cnn"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(SystemExit, match="2"):
        main(["bench", LENET, "--against", "abacus"])
    assert "'abacus' can't be compared with; choose from torch" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["bench", str(ROOT / LENET), "--against", "torch"]) == 2
    assert "pip install 'cnnc[torch]'" in capsys.readouterr().err


def test_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cnnc.bench", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--against" in done.stdout


def test_outputs_that_differ_are_not_compared() -> None:
    with pytest.raises(CnnError, match=r"net: torch's output differs from ours by 1\.0e\+00"):
        bench._check_same("net", np.zeros((1, 2)), np.ones((1, 2)))


# -- PyTorch's side -------------------------------------------------------------------------------------


def check(model: Model) -> None:
    """Both sides of the comparison against the oracle."""
    weights = {spec.name: np.abs(value) + 0.01 if spec.name.endswith("running_var") else value
               for spec, value in initial_values(model.params(), 0)}  # fmt: skip
    x = np.random.default_rng(1).normal(size=(2, *model.graph["input"].types[0].shape))
    graph = inference_mode(model.graph)
    expected = evaluate(graph, {"input": x}, weights, scalars=Scalars(2))[graph.outputs["output"]]
    found = TorchPeer(model, weights)(x.astype("float32"))
    assert found.shape == expected.shape
    assert np.linalg.norm(found - expected) <= TOLERANCE * np.linalg.norm(expected)


WINDOWS = (
    Window((3, 2), (2, 1), (1, 2, 0, 1)),
    Window((3, 3), (2, 2), (1, 1, 1, 1), (2, 2)),
    Window((2, 2), (3, 3)),
)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("groups", [1, 2])
def test_convs(window: Window, groups: int) -> None:
    net = Net(11, 9, 4)
    weight = net.parameter("c", conv_spec("c.weight", 6, window.kernel, 4 // groups))
    check(net.model(net.node("c", ops.Conv(window, groups), net.x, weight)))


@pytest.mark.parametrize(("window", "image"), [(WINDOWS[0], (9, 7)), (WINDOWS[1], (11, 12)), (WINDOWS[2], (14, 13))])
def test_transposed_convs(window: Window, image: tuple[int, int]) -> None:
    net = Net(*window.output(image), 3)
    weight = net.parameter("up", conv_spec("up.weight", 3, window.kernel, 5))
    check(net.model(net.node("up", ops.ConvDgrad(window, image), net.x, weight)))


POOLS = (
    Window((3, 3), (2, 2), ceil=True),
    Window((2, 2), (2, 2), (1, 0, 0, 1), ceil=True),
    Window((3, 2), (1, 3), (1, 1, 1, 0)),
)


@pytest.mark.parametrize("window", POOLS, ids=str)
@pytest.mark.parametrize(
    "pool",
    [ops.MaxPool, ops.SumPool, ops.AvgPool, lambda window: ops.AvgPool(window, count_pad=True)],
    ids=["max", "sum", "average", "countpad"],
)
def test_pools(window: Window, pool: type[ops.MaxPool]) -> None:
    net = Net(10, 8, 3)
    check(net.model(net.node("p", pool(window))))


def vector(net: Net, name: str, count: int = 6) -> Value:
    return net.parameter(name, vector_spec(f"{name}.vector", count, Init("uniform", 1)))


@pytest.mark.parametrize("kind", [kind for kind in ops.ACTIVATIONS if kind not in ("sqrt", "inverse_deviation")])
def test_activations(kind: str) -> None:
    net = Net(3, 2, 6)
    check(net.model(net.node("a", ops.Activation(kind, 0.1 if kind in ("leaky_relu", "elu") else 0.0))))


def test_activations_of_positive_values() -> None:
    net = Net(3, 2, 6)
    positive = net.node("sq", ops.Mul(), net.x, net.x)
    root = net.node("root", ops.Activation("sqrt"), positive)
    check(net.model(net.node("inv", ops.Activation("inverse_deviation", 0.3), root)))


def test_what_works_on_channels() -> None:
    net = Net(3, 5, 6)
    y = net.node("scaled", ops.ChannelScale(), net.x, vector(net, "scaled"))
    y = net.node("biased", ops.BiasAdd(), net.norm("bn", y), vector(net, "biased"))
    y = net.node("prelu", ops.PRelu(), net.node("lrn", ops.Lrn(4, 0.3, 0.6, 1.5), y), vector(net, "prelu"))
    y = net.node("shuffle", ops.ChannelShuffle(2), y)
    y = net.node("cat", ops.Concat(), y, net.node("slice", ops.ChannelSlice(1, 4), y))
    y = net.node("max", ops.Maxout(2), net.node("half", ops.Scale(-0.5), y))
    spec = ParamSpec("at.bias", (5, 3, 5), (5, 3, 5), (1, 2, 0), Init("uniform", 1))
    y = net.node("at", ops.PositionBias(), y, net.parameter("at", spec))
    check(net.model(net.node("soft", ops.Softmax(), net.node("drop", ops.Dropout(0.5, 0), y))))


def test_what_moves_pixels() -> None:
    net = Net(5, 3, 2)
    y = net.node("up", ops.Upsample((2, 3), "bilinear"), net.node("near", ops.Upsample((1, 2)), net.x))
    y = net.node("crop", ops.Crop((1, 2), (7, 9)), net.node("pad", ops.ZeroPad((0, 1, 2, 0)), y))
    y = net.node("short", ops.PadShortcut((2, 3), 5), y)
    y = net.node("back", ops.Unflatten((4, 3, 5)), net.node("flat", ops.Flatten(), y))
    check(net.model(net.node("same", ops.Identity(), y)))


def test_vectors() -> None:
    net = Net(3, 2, 4)
    x = net.node("pixels", ops.Linear(), net.x, net.parameter("pixels", linear_spec("pixels.weight", 6, 4)))
    x = net.norm("bn", net.node("gap", ops.GlobalAvgPool(), x))
    y = net.node("binary", ops.Binarize(), net.parameter("fc", linear_spec("fc.weight", 5, 6)))
    y = net.node("fc", ops.Linear(), x, y)
    codes = net.constant("rbf", (3, 5), Init("values", values=(1.0, -1.0, 1.0) * 5))
    check(net.model(net.node("rbf", ops.Rbf(), y, codes)))


def test_masked_weights_and_heads_left_out() -> None:
    net = Net(6, 6, 3)
    weight = net.parameter("c", conv_spec("c.weight", 2, (3, 3), 3))
    mask = net.constant("c", (2, 3), Init("values", values=(1.0, 0.0, 1.0, 0.0, 1.0, 1.0)))
    y = net.node("c", ops.Conv(Window((3, 3))), net.x, net.node("c", ops.MaskWeight(), weight, mask))
    check(net.model(net.node("sum", ops.Add(), y, y), heads=[("aux", net.fc("aux", y, 3))]))


def test_what_torch_lacks_is_said() -> None:
    net = Net(3, 3, 2)
    index = Value(net.node("p", ops.MaxPool(Window((1, 1)))).node, 1)
    model = net.model(net.node("g", ops.MaxPoolGrad(Window((1, 1)), (3, 3)), net.x, index))
    with pytest.raises(UsageError, match="--against torch has no max pool grad"):
        TorchPeer(model, {})
