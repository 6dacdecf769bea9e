"""Corrections of a growing concatenation's gradient, once."""

from __future__ import annotations

import pytest

from cnnc.frontend import load
from cnnc.ir import ops
from cnnc.ir.graph import Graph
from cnnc.passes.defer_corrections import defer_corrections
from cnnc.passes.lower_batchnorm import lower_batchnorm
from cnnc.passes.pipelines import meaning
from cnnc.runtime.compare import output_errors
from cnnc.runtime.oracle import evaluate
from cnnc.runtime.scalars import Scalars
from cnnc.runtime.verify import random_inputs, random_params
from cnnc.source import Source

LAYER = "bn relu; conv 8 1x1 nobias bn relu; conv 3 3x3 same nobias"
PROGRAMS = {
    "a dense block": f"input 5x6x3\nconv 4 3x3 nobias\nrepeat 4 {{ concat {{ | identity | {LAYER} }} }}\nbn relu\nfc 3",
    "two blocks": (
        f"input 6x6x3\nconv 4 1x1 bn\nrepeat 2 {{ concat {{ | identity | {LAYER} }} }}\nbn relu\nconv 5 1x1\n"
        f"avgpool 2x2\nrepeat 3 {{ concat {{ | identity | {LAYER} }} }}\nbn relu\nglobalavgpool\nfc 3"
    ),
    "a concatenation that others read too": (
        "input 4x4x3\na: concat { | conv 4 1x1 | conv 5 3x3 same }\nb: conv 9 1x1 bn\nadd(a, b)\nbn relu\n"
        "concat(a, b)\nbn\nfc 3"
    ),
    "two batch norms of one": "input 4x4x3\na: concat { | conv 4 1x1 | identity }\nadd { | bn | bn; relu }\nfc 3",
    "the same operand twice": "input 4x4x3\nconv 4 1x1\nconcat { | identity | identity }\nbn relu\nfc 3",
    "the input": "input 4x4x3\nconcat { | identity | conv 4 1x1 }\nbn relu\nconv 2 1x1",
    "a batch norm behind an output": "input 7\nconcat { | fc 4 | fc 5 }\nbn relu\nfc 3",
}


def _graphs(text: str, variant: str) -> tuple[Graph, Graph]:
    before = lower_batchnorm(meaning(load(Source("<test>", text)), variant))
    return before, defer_corrections(before)


@pytest.mark.parametrize("variant", ["loss", "vjp"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_same_gradients(name: str, variant: str) -> None:
    model = load(Source("<test>", PROGRAMS[name]))
    before, after = _graphs(PROGRAMS[name], variant)
    scalars, params, inputs = Scalars(3, seed=2, step=1), random_params(model, 2), random_inputs(before, 3, 2)
    reference = evaluate(before, inputs, params, scalars=scalars)
    values = evaluate(after, inputs, params, scalars=scalars)
    assert max(output_errors(before, reference, after, values).values()) <= 1e-12


def test_each_operand_is_corrected_once() -> None:
    """Of the block's four batch norms none reads and writes the gradient of all channels before it."""
    before, after = _graphs(PROGRAMS["a dense block"], "loss")
    kinds = [node.op for node in after.walk()]
    # The batch norms inside the layers have no concatenation in front of them and stay.
    assert sum(isinstance(op, ops.BatchNormInputGrad) for op in kinds) == 5
    assert sum(isinstance(op, ops.BatchNormCorrection) for op in kinds) == 4
    affine = [node for node in after.walk() if isinstance(node.op, ops.ChannelAffine)]
    assert sorted(node.types[0].shape[-1] for node in affine) == [3, 3, 3, 3, 4]
    assert sum(isinstance(node.op, ops.BatchNormInputGrad) for node in before.walk()) == 9


def test_other_networks_stay_as_they_are() -> None:
    before, after = _graphs("input 5x5x3\nconv 4 3x3 bn relu\nconv 4 3x3 bn relu\nfc 3", "loss")
    assert after is before
