"""Products whose factors come in blocks, as cards run them: block loads, matrix instructions, no spills."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cnnc.codegen import generate
from cnnc.codegen.artifact import Artifact, write_artifact
from cnnc.codegen.build import Binaries, attempt, build
from cnnc.codegen.build_gates import faults
from cnnc.codegen.launch import Module
from cnnc.ir import ops
from cnnc.ir.plan import Tile
from cnnc.ir.types import TensorType
from cnnc.ir.window import Window
from cnnc.passes.descriptor_tiles import SPEEDS, wgrad_tile
from tests.codegen.one_step import plan_of

SAME = Window((3, 3), pad=(1, 1, 1, 1))
HALF = Window((3, 3), (2, 2), (1, 1, 1, 1))
POINT = Window((1, 1), (2, 2))
LARGE, SMALL = TensorType((14, 14, 128)), TensorType((7, 7, 128))
KERNELS, POINTS, MATRIX = (TensorType(shape, False) for shape in ((128, 3, 3, 128), (128, 1, 1, 128), (128, 128)))
PRODUCTS: dict[str, tuple[ops.Op, tuple[TensorType, ...]]] = {
    "conv": (ops.Conv(SAME), (LARGE, KERNELS)),
    "conv_point": (ops.Conv(POINT), (LARGE, POINTS)),
    "dgrad": (ops.ConvDgrad(SAME, (14, 14)), (LARGE, KERNELS)),
    "dgrad_strided": (ops.ConvDgrad(HALF, (14, 14)), (SMALL, KERNELS)),
    "dgrad_sparse": (ops.ConvDgrad(POINT, (14, 14)), (SMALL, POINTS)),
    "linear": (ops.Linear(), (LARGE, MATRIX)),
    "linear_dgrad": (ops.LinearDgrad(), (LARGE, MATRIX)),
}
WGRADS: dict[str, tuple[ops.Op, tuple[TensorType, ...]]] = {
    "wgrad": (ops.ConvWgrad(HALF), (SMALL, LARGE)),
    "linear_wgrad": (ops.LinearWgrad(), (LARGE, LARGE)),
}


def module(name: str, tile: Tile) -> Module:
    op, types = (PRODUCTS | WGRADS)[name]
    return generate(plan_of(op, types, dtype="bfloat16", target="sm_90", n=128, tile=tile))


def check(binaries: Binaries, matrix: str) -> None:
    for compiled in binaries.compiled.values():
        report = compiled.report
        assert (report.matrix, report.spills, report.serialized) == (matrix, 0, "")
        assert report.loads >= 2
        assert len(report.maps) == 2
        assert all(found["swizzle"] and found["elem_size"] == 2 for found in report.maps)


@pytest.mark.parametrize("tile", SPEEDS, ids=lambda tile: f"{tile.m}x{tile.n}w{tile.warps}")
def test_every_tile(tile: Tile) -> None:
    """Two products in each, in turn, so that each product and each tile is seen."""
    names = list(PRODUCTS)
    first = list(SPEEDS).index(tile)
    picked = [names[(2 * first + step) % len(names)] for step in range(2)]
    check(build({name: module(name, tile) for name in picked}, ["sm_90"]), "wgmma")


def test_weight_gradients() -> None:
    modules = {}
    for name, (op, types) in WGRADS.items():
        for count in (64, 128):
            tile = wgrad_tile(op, types, count, count, aligned=True)
            modules[f"{name}{count}"] = module(name, replace(tile, splits=4))
    check(build(modules, ["sm_90"]), "wgmma")


def test_blackwell() -> None:
    tile = Tile(128, 128, 64, warps=8, stages=4, descriptors=True)
    check(build({name: module(name, tile) for name in ("conv", "linear")}, ["sm_100"]), "tcgen05")


def test_other_targets_refuse_descriptors() -> None:
    tile = Tile(128, 128, 64, warps=8, stages=4, descriptors=True)
    binaries, problems = attempt({"conv": module("conv", tile)}, ["sm_90"])
    assert not problems
    ((key, request),) = binaries.work.requests.items()
    report = binaries.compiled[key].report
    assert faults(report, replace(request, target="sm_80")) == ["takes tensor descriptors, which sm_80 has not"]
    assert faults(replace(report, matrix="mma.sync"), request) == ["uses no wgmma instructions"]
    assert faults(replace(report, loads=0), request) == ["loads no blocks through its descriptors"]


def test_an_artifact_says_how_to_make_the_tensor_maps(tmp_path: Path) -> None:
    tile = Tile(128, 128, 64, warps=8, stages=4, descriptors=True)
    binaries = build({"infer": module("conv", tile)}, ["sm_90"])
    write_artifact(tmp_path / "out", Artifact("net", "", "bfloat16", False, ("sm_90",)), binaries)
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    (launch,) = plan["variants"]["infer"]["schedules"][0]["launches"]["steps"]["step"]
    arguments = {argument["name"]: argument for argument in launch["arguments"]}
    x = arguments["x_desc"]
    assert x["type"] == "tensordesc<bf16[1, 128, 64]>"
    assert [extent["a"] or extent["c"] for extent in x["shape"]] == [14 * 14, 1, 128]
    assert [stride["a"] or stride["c"] for stride in x["strides"]] == [128, 128, 1]
    assert x["block"] == [1, 128, 64]
    (kernel,) = plan["kernels"]
    described = [name for name, kind in kernel["signature"].items() if kind.startswith("tensordesc")]
    assert len(kernel["tensor_maps"]) == len(described) == 2
    assert [tensor_map["box"] for tensor_map in kernel["tensor_maps"]] == [[128, 1, 64], [1, 128, 64]]
