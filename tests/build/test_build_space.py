"""Pools, borders, shortcuts, up-sampling and depthwise convolutions compiled for GPUs that are not there."""

from __future__ import annotations

import pytest

from cnnc.codegen import generate
from cnnc.codegen.build import Binaries, build
from cnnc.passes.pipelines import compile_plan
from tests.space_network import space_network


def built(channels: int, target: str, dtype: str) -> Binaries:
    """Forward and backward; raises where a kernel spills or does not compile."""
    return build({"vjp": generate(compile_plan(space_network(channels), "vjp", target, dtype))}, [target])


def test_kernels_of_this_family_meet_the_gates() -> None:
    names = {request.kernel for request in built(16, "sm_90", "bfloat16").work.requests.values()}
    for begin in ("zero_pad", "crop", "pad_shortcut", "sum_pool", "upsample_nearest", "upsample_bilinear"):
        assert any(name.startswith(begin) for name in names), begin
    for begin in ("depthwise_fprop", "depthwise_dgrad", "depthwise_wgrad"):
        assert any(name.startswith(begin) for name in names), begin
    for begin in ("sum_pool_grad", "pad_shortcut_grad", "upsample_nearest_grad", "upsample_bilinear_grad"):
        assert any(name.startswith(begin) for name in names), begin


@pytest.mark.slow
@pytest.mark.parametrize("channels", [13, 64])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100", "gfx942"])
def test_everywhere(target: str, dtype: str, channels: int) -> None:
    """Channels that come in vectors and channels that do not."""
    binaries = built(channels, target, dtype)
    assert all(compiled.report.spills == 0 for compiled in binaries.compiled.values())
