"""CNNC_DUMP: the graph after each pass, the Plan and the kernels, as text."""

import cnnc
from cnnc.passes.pipelines import PIPELINES

PROGRAM = "model tiny\ninput 4x4x1\nconv 2 3x3 same bn relu\nfc 3\nsoftmax\n"


def test_everything_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNC_DUMP", str(tmp_path / "dump"))
    assert "@triton.jit" in cnnc.compile(PROGRAM, device="cpu").kernels
    names = {path.name for path in (tmp_path / "dump").iterdir()}
    for position, step in enumerate(PIPELINES["infer"]):
        assert f"tiny.infer.{position:02}-{step.__name__}.txt" in names
    assert {"tiny.infer.cpu.plan.txt", "tiny.infer.sm_90.plan.txt", "tiny.infer.sm_90.kernels.py"} <= names
    plan = (tmp_path / "dump" / "tiny.infer.cpu.plan.txt").read_text()
    assert "N = 64 to ...: work" in plan
    assert "input: float32 Nx4x4x1 NHWC halo=1,1,1,1 at input + 0" in plan
    assert "prepare conv1.folded_weight: " in plan


def test_nothing_is_written_unasked(tmp_path, monkeypatch):
    monkeypatch.delenv("CNNC_DUMP", raising=False)
    monkeypatch.chdir(tmp_path)
    assert cnnc.compile(PROGRAM, device="cpu").plan.variant == "infer"
    assert not list(tmp_path.iterdir())
