"""Two products in one kernel, compiled for GPUs that are not there: two accumulators must fit into registers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cnnc.codegen import generate
from cnnc.codegen.build import Binaries, build
from cnnc.frontend import load
from cnnc.passes.pipelines import compile_plan
from cnnc.source import Source

TEXT = (
    "input {size}x{size}x{width}\nCONV: same, nobias, bn, relu\n"
    "block bottleneck(w) {{ add {{\n| conv w 1x1; conv w 3x3; conv 4*w 1x1 linear\n| shortcut B\n}} relu }}\n"
    "bottleneck({width}) x3\nglobalavgpool\nfc 10"
)
EXPAND, REDUCE = "conv_fprop_bias_relu_linear_fprop_bias_add_relu", "linear_fprop_bias_add_relu_linear_fprop_bias_relu"


def built(width: int, target: str, dtype: str) -> Binaries:
    """The kernels of large batches; raises where one spills or is serialised."""
    model = load(Source("<test>", TEXT.format(size=56, width=width)))
    plan = compile_plan(model, "infer", target, dtype)
    return build({"infer": generate(replace(plan, schedules=plan.schedules[-1:]))}, [target])


def test_both_pairs_keep_the_matrix_instructions() -> None:
    binaries = built(64, "sm_90", "bfloat16")
    reports = {compiled.report.entry: compiled.report for compiled in binaries.compiled.values()}
    assert {EXPAND, REDUCE} <= set(reports)
    assert all(reports[name].matrix == "wgmma" for name in (EXPAND, REDUCE))


@pytest.mark.slow
@pytest.mark.parametrize("width", [37, 64, 128])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100", "gfx942"])
def test_everywhere(target: str, dtype: str, width: int) -> None:
    assert built(width, target, dtype).compiled
