"""No kernel assigns to its own parameter: what an epilogue reads would be lost, and Triton refuses it in loops."""

from __future__ import annotations

import ast

import pytest

from cnnc.codegen import generate
from cnnc.frontend import load
from cnnc.ir.model import Model
from cnnc.passes.pipelines import compile_plan
from cnnc.source import Source
from tests.random_programs import random_model

VARIANTS = ("infer", "loss", "vjp")
LAYERS = ("conv 4 3x3 same", "dwconv 3x3 same", "conv 5 1x1", "deconv 4 2x2/2", "maxpool 2x2", "avgpool 2x2")
LAYERS += ("lrn", "upsample 2 bilinear", "maxout 5", "fc 5", "l2pool 2x2", "zeropad 1", "crop 2x2", "softmax")


def reassigned(source: str) -> list[tuple[str, str]]:
    found = []
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef):
            names = {argument.arg for argument in function.args.args}
            stored = (node.id for node in ast.walk(function) if isinstance(node, ast.Name) and _is_stored(node))
            found += [(function.name, name) for name in stored if name in names]
    return found


def _is_stored(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)


def check(model: Model) -> None:
    for variant in VARIANTS:
        assert reassigned(generate(compile_plan(model, variant, "sm_90", "bfloat16")).source) == []


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_with_every_operand_behind_them(layer):
    check(load(Source("<test>", f"input 6x6x5\n{layer}\nscale\nprelu\nbn\ndropout\nscaled_tanh\nscale\nfc 3")))


@pytest.mark.parametrize("seed", range(600, 612))
def test_random_programs(seed):
    check(random_model(seed))


def test_what_is_found():
    assert reassigned("def f(x, y):\n    for y in x:\n        z = y\n") == [("f", "y")]
