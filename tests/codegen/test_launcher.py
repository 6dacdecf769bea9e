"""Loading and launching generated modules: files, both kinds of run in one process, errors."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnc.codegen import generate
from cnnc.errors import UsageError
from cnnc.ir import ops
from cnnc.ir.plan import Space
from cnnc.ir.types import TensorType
from cnnc.runtime import triton_launcher
from cnnc.runtime.memory import allocate
from cnnc.runtime.scalars import Scalars
from cnnc.runtime.triton_launcher import TritonExecutor, load_module, write_module
from tests.codegen.one_step import image, plan_of, run_step

SOFTMAX = (ops.Softmax(), (TensorType((10,)),))
X = np.random.default_rng(20).standard_normal((3, 10)).astype(np.float32)


def test_file_is_named_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNC_CACHE", str(tmp_path))
    source = generate(plan_of(*SOFTMAX)).source
    path = write_module(source)
    assert path.read_text() == source
    assert path == write_module(source)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert load_module(source, "interpret") is not load_module(source, "cuda")


def test_compiling_works_before_and_after_interpreting() -> None:
    """The interpreter's patches to Triton's language end with the run, nested library functions included."""
    module = generate(plan_of(*SOFTMAX, target="sm_90"))
    before = _compile(module)
    (y,) = run_step(ops.Softmax(), [image(X)])
    after = _compile(module)
    (again,) = run_step(ops.Softmax(), [image(X)])
    assert before == after
    assert "softmax" in after
    assert np.array_equal(y, again)


def _compile(module: Any) -> str:
    """PTX of the module's kernel, compiled here without a card."""
    import triton  # noqa: PLC0415 - what the test is about
    from triton.backends.compiler import GPUTarget  # noqa: PLC0415
    from triton.compiler import ASTSource  # noqa: PLC0415

    (launch,) = module.tables[0].steps["step"]
    kernel = getattr(load_module(module.source, "cuda"), launch.kernel)
    signature = {
        name: {"x": "*fp32", "out": "*fp32"}.get(name, "i64" if "_" in name else "i32") for name, _ in launch.arguments
    }
    signature |= dict.fromkeys(launch.constants, "constexpr")
    source = ASTSource(fn=kernel, signature=signature, constexprs=dict(launch.constants))
    with triton.knobs.compilation.scope():
        triton.knobs.compilation.always_compile = True
        compiled = triton.compile(
            source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4, "enable_fp_fusion": True}
        )
    text: str = compiled.asm["ptx"]
    return text


@pytest.mark.parametrize("environment", [{}, {"TRITON_INTERPRET": "1"}])
def test_interpreting_whatever_the_environment_says(environment: dict[str, str], tmp_path: Path) -> None:
    """Triton may have been imported before, for compiling or for interpreting."""
    script = (
        "import triton, numpy as np\n"
        "from cnnc.ir import ops\n"
        "from tests.codegen.one_step import image, run_step\n"
        "(y,) = run_step(ops.Softmax(), [image(np.ones((3, 10), np.float32))])\n"
        "(z,) = run_step(ops.Dropout(0.5, 1), [image(np.ones((3, 10), np.float32))])\n"
        "assert abs(y - 0.1).max() < 1e-6 and set(np.unique(z)) == {0.0, 2.0}\n"
    )
    root = Path(__file__).resolve().parents[2]
    env = {"CNNC_CACHE": str(tmp_path), "PYTHONPATH": str(root), "PATH": "", **environment}
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=120, cwd=root
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(*SOFTMAX)

    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UsageError, match="needs Triton") as caught:
        TritonExecutor(plan, generate(plan), "interpret")
    assert "\n" not in str(caught.value)


def test_more_rows_than_kernels_count() -> None:
    kind = TensorType((1024, 1024, 1))
    plan = plan_of(ops.Activation("relu"), (kind,))
    executor = TritonExecutor(plan, generate(plan), "interpret")
    schedule = plan.schedules[0]
    with pytest.raises(UsageError, match="smaller batch"):
        executor.run(schedule, schedule.steps, {Space.WORK: allocate(0)}, Scalars(2048))
    assert triton_launcher.MAX_ROWS == 2**31
