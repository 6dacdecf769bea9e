"""Losses over images and distances from codes, compiled for cards that are not there."""

from __future__ import annotations

import pytest

from cnnc.codegen import generate
from cnnc.codegen.build import build
from cnnc.ir import ops
from cnnc.ir.types import Element, TensorType
from tests.codegen.one_step import plan_of

MAP, LABELS = TensorType((50, 31, 21)), TensorType((50, 31), True, Element.LABEL)
CODES = TensorType((10, 84), False, Element.ACC)
STEPS = {
    "cross_entropy": (ops.CrossEntropy(0.3), (MAP, LABELS)),
    "rbf": (ops.Rbf(), (TensorType((84,)), CODES)),
    "rbf_grad": (ops.RbfGrad(), (TensorType((10,)), TensorType((84,)), CODES)),
}


@pytest.mark.parametrize("target", ["sm_90", "gfx942"])
def test_kernels_compile_without_spills(target: str) -> None:
    modules = {
        name: generate(plan_of(op, types, target=target, dtype="bfloat16")) for name, (op, types) in STEPS.items()
    }
    built = build(modules, [target])
    entries = {compiled.report.entry for compiled in built.compiled.values()}
    assert entries == {"cross_entropy_loss_grad", "image_mean", "rbf", "rbf_grad"}
    assert all(compiled.report.spills == 0 for compiled in built.compiled.values())
