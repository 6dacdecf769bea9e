"""Kernels that spill are written again with smaller tiles."""

from __future__ import annotations

from typing import Any

import pytest

from cnnc.api import fitting
from cnnc.api.artifact import _planners
from cnnc.api.fitting import build_fitting
from cnnc.errors import CompileError
from cnnc.frontend import load
from cnnc.ir.plan import Tile
from cnnc.passes import plan as plans
from cnnc.passes.pipelines import NOTHING
from cnnc.passes.room import narrower
from cnnc.source import Source

TEXT = "input 8x8x64\nconv 64 1x1 relu\nfc 10"


def test_each_step_is_smaller() -> None:
    tile: Tile | None = Tile(128, 128, 64, warps=8, stages=3)
    areas = []
    for times in range(8):
        small = narrower(tile, times)
        assert small is not None
        areas.append((small.m * small.n * small.k, small.stages))
    assert areas == sorted(areas, reverse=True)
    assert len(set(areas)) >= 7
    assert narrower(None, 3) is None


def test_a_tile_that_spills_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule is made to give the linear layer a tile that no card has registers for."""
    choose = plans.choose_tile

    def greedy(op: Any, *rest: Any, **options: Any) -> Tile | None:
        tile = choose(op, *rest, **options)
        return Tile(256, 256, 64, warps=4, stages=2) if tile is not None and "linear" in op.name else tile

    monkeypatch.setattr(plans, "choose_tile", greedy)
    planners = _planners(load(Source("<test>", TEXT)), ("sm_80",), "bfloat16", False, NOTHING, None)
    binaries = build_fitting(planners, ("sm_80",))
    assert all(compiled.report.spills == 0 for compiled in binaries.compiled.values() if compiled in _used(binaries))
    tiles = [step.tile for schedule in binaries.modules["infer"].plan.schedules for step in schedule.steps]
    linear = next(tile for tile in tiles if tile is not None and tile.warps == 4 and tile.stages == 2)
    assert linear.m * linear.n < 256 * 256
    monkeypatch.setattr(fitting, "ROUNDS", 0)
    with pytest.raises(CompileError, match="spills registers"):
        build_fitting(planners, ("sm_80",))


def _used(binaries: Any) -> list[Any]:
    return [binaries.compiled[key] for key in set(binaries.work.keys.values())]
