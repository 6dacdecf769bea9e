"""Kernels that write and read slices of channels, aligned or not, as a compiler for GPUs takes them."""

from __future__ import annotations

import pytest

from cnnc.codegen import generate
from cnnc.codegen.build import Binaries, build
from cnnc.codegen.launch import Launch, Pointer, divisible_by_16
from cnnc.frontend import load
from cnnc.ir.plan import Plan
from cnnc.passes.pipelines import compile_plan
from cnnc.source import Source

BLOCK = """input 9x8x3
CONV: same, nobias
conv {stem} 3x3
repeat 2 {{ concat {{ | identity | bn; relu; conv {wide} 1x1 bn relu; conv {width} 3x3 }} }}
concat {{ | maxpool 3x3/1 same | dwconv 3x3 same | avgpool 3x3/1 same; conv {width} 1x1 relu }}
bn
relu
globalavgpool
fc 10
"""


def plan_of(width: int, target: str, variant: str) -> Plan:
    """Two layers of a dense block, and a block of pools and a depthwise convolution."""
    text = BLOCK.format(stem=2 * width, wide=4 * width, width=width)
    return compile_plan(load(Source(f"<{width}>", text)), variant, target, "bfloat16")


def built(width: int, target: str, variant: str) -> Binaries:
    return build({"net": generate(plan_of(width, target, variant))}, [target])


@pytest.mark.parametrize("width", [12, 32])
def test_slices_meet_the_gates(width: int) -> None:
    """No spills, no serialised products; those that write slices take the matrix units as others do."""
    reports = [done.report for done in built(width, "sm_90", "infer").compiled.values()]
    assert all(report.spills == 0 for report in reports)
    assert any(report.matrix for report in reports)


@pytest.mark.slow
@pytest.mark.parametrize("width", [12, 32])
@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100", "gfx942"])
def test_everywhere(target: str, width: int) -> None:
    assert all(done.report.spills == 0 for done in built(width, target, "vjp").compiled.values())


def test_what_the_compiler_may_assume() -> None:
    """An address is a multiple of 16 bytes where the slice begins at one, and never by its memory alone."""
    for width, aligned in ((12, False), (32, True)):
        plan = plan_of(width, "sm_90", "infer")
        schedule = plan.schedules[-1]
        buffers = {buffer.id: buffer for buffer in schedule.buffers}
        table = generate(plan).tables[-1]
        launches = [launch for items in table.steps.values() for launch in items]
        written = {place: launch for launch in launches for place in pointers(launch) if buffers[place].is_slice}
        found = {buffers[place].first * 2 % 16 == 0: divisible_by_16(Pointer(place), buffers) for place in written}
        assert found == ({True: True} if aligned else {True: True, False: False})


def pointers(launch: Launch) -> list[int]:
    return [argument.buffer for _, argument in launch.arguments if isinstance(argument, Pointer)]
