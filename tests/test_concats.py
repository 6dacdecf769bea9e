"""Networks full of concatenations: written in slices, read in slices, in every way and on every host device."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnc.frontend import load
from cnnc.ir import ops
from cnnc.ir.model import Model
from cnnc.passes.pipelines import VARIANTS, compile_plan, optimise
from cnnc.runtime.device import open_device
from cnnc.runtime.verify import verify_model
from cnnc.source import Source
from tests.passes.test_plans import check_plan, plans_of
from tests.random_runs import Pair, worst

DOUBLE, SINGLE = 1e-9, 1e-5  # relative L2
SMOOTH = "CONV: same, tanh\nBN: eps=0.1"  # nothing jumps, so that float32 can be compared
TEXTS = {
    # What the input or an output is can't lie in a slice; nor can one value in two.
    "the input": f"input 5x4x3\n{SMOOTH}\nconcat {{ | identity | conv 5 3x3 | conv 7 1x1 }}\nconv 4 3x3\nfc 3",
    "only the input": f"input 5x4x3\n{SMOOTH}\nconcat(input, input)\nconv 4 3x3\nfc 3",
    "one value twice": f"input 5x4x3\n{SMOOTH}\na: conv 5 3x3\nconcat(a, a, input)\nconv 4 1x1\nfc 3",
    "one value in two": (
        f"input 4x5x2\n{SMOOTH}\na: conv 5 3x3\nb: conv 7 1x1\nc: concat(a, b)\nconv 3 3x3\nd: concat(b, c, a)\n"
        "conv 12 3x3\nconcat(d, input)\nglobalavgpool\nfc 3"
    ),
    "the output": f"input 3x4x2\n{SMOOTH}\nconcat {{ | conv 5 3x3 | conv 7 1x1 | identity }}",
    "an output inside an output": f"input 3x4x2\n{SMOOTH}\n"
    "concat { | conv 5 3x3 | concat { | conv 3 1x1 | conv 2 3x3 } }",
    "heads": (
        f"input 4x4x3\n{SMOOTH}\na: conv 5 3x3\nb: conv 7 3x3\nconcat(a, b)\nhead h loss=0.3 {{ fc 3 }}\n"
        "concat { | conv 4 1x1 | conv 12 3x3/1 }\nfc 3"
    ),
    # Nested: a dense block grows in one piece; arms of arms; a U.
    "a dense block": (
        "input 5x4x3\nCONV: same, nobias\nBN: eps=0.1\nconv 6 3x3\n"
        "repeat 4 { concat { | identity | bn; tanh; conv 8 1x1 bn tanh; conv 5 3x3 } }\nbn\ntanh\nconv 9 1x1\n"
        "avgpool 2x2/2\nrepeat 3 { concat { | identity | bn; tanh; conv 12 3x3 } }\nglobalavgpool\nfc 3"
    ),
    "siblings": (
        f"input 6x5x3\n{SMOOTH}\nconv 7 3x3\n"
        "concat { | conv 5 1x1 | conv 3 1x1; conv 7 3x3 | conv 2 1x1; conv 3 5x5 | avgpool 3x3/1 same; conv 4 1x1 }\n"
        "concat { | conv 4 1x1; concat { | conv 3 1x3 | conv 3 3x1 } | identity | conv 16 1x1; conv 16 3x3 }\nfc 3"
    ),
    "a U": (
        f"input 8x8x2\n{SMOOTH}\na: conv 5 3x3\navgpool 2x2/2\nb: conv 7 3x3\navgpool 2x2/2\nconv 9 3x3\n"
        "deconv 7 2x2/2\nconcat { | from b | identity }\nconv 7 3x3\ndeconv 5 2x2/2\n"
        "concat { | identity | from a }\nconv 3 3x3 linear"
    ),
    # What may stand before and behind a concatenation: every family of kernels writes and reads slices.
    "pools": (
        f"input 7x6x4\n{SMOOTH}\nconv 6 3x3\n"
        "concat { | maxpool 3x3/2 | avgpool 3x3/2 | conv 5 3x3/2 valid | crop 3x2 }\nupsample 2\n"
        "concat { | zeropad 1; maxpool 3x3/1 | avgpool 1x1/1 | identity } tanh\nconv 3 3x3 linear"
    ),
    "depthwise": (
        f"input 5x5x3\n{SMOOTH}\nconv 8 3x3\n"
        "a: concat { | dwconv 3x3 same | conv 8 3x3 groups=2 | conv 6 3x3 groups=2 }\n"
        "dwconv 3x3 same\nconv 11 3x3 groups=11 bn\nb: concat { | identity | upsample 1 | lrn n=3 }\nconv 22 1x1 bn\n"
        "concat { | identity | add(b, b) | shuffle 2 | maxout 2 | dropout 0.3 | prelu }\nbn\nfc 3"
    ),
    "vectors": (
        f"input 4x3x2\n{SMOOTH}\nconv 5 3x3\nconcat {{ | fc 7 tanh | globalavgpool | flatten | fc 12 bn softmax }}\n"
        "dropout 0.2\nconcat { | fc 5 | identity }\nfc 3"
    ),
    "one pixel": (
        f"input 1x1x5\n{SMOOTH}\na: concat {{ | conv 7 1x1 | conv 2 3x3 }}\nflatten\nb: fc 4\n"
        "concat { | identity | from a; flatten | fc 12 tanh }\nfc 3 softmax"
    ),
    "a flattened slice": f"input 1x1x5\n{SMOOTH}\na: conv 7 1x1\n"
    "concat { | identity | conv 2 1x1 }\nconv 4 1x1\nadd(a, 2 * a)\nflatten",
    "a sequence": f"input 9x4\n{SMOOTH}\n"
    "concat { | conv 5 f=2 | conv 12 f=3; conv 7 f=1 | identity }\nconv 4 f=2\nfc 3",
}


# Of each kind of kernel that writes or reads slices one network: the interpreter takes its time.
INTERPRETED = ("one value in two", "a dense block", "siblings", "a U", "pools", "depthwise", "vectors", "one pixel")


def program(name: str) -> Model:
    return load(Source(f"<{name}>", TEXTS[name]))


@pytest.mark.parametrize("name", TEXTS)
def test_float64(name: str) -> None:
    found = worst(Pair(program(name), "cpu", "float64", 1), (1, 3, 9), 1)
    assert found.error <= DOUBLE, found


@pytest.mark.parametrize("name", TEXTS)
def test_float32(name: str) -> None:
    found = worst(Pair(program(name), "cpu", "float32", 2), (1, 3), 2)
    assert found.error <= SINGLE, found


@pytest.mark.parametrize("name", INTERPRETED)
def test_interpreted(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CNNC_CACHE", str(tmp_path))
    found = worst(Pair(program(name), "interpret", "float32", 3), (2,), 3, only=("infer", "loss"))
    assert found.error <= SINGLE, found


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize("name", TEXTS)
def test_every_step(name: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step alone on the oracle's values."""
    monkeypatch.setattr("cnnc.runtime.verify.TRAINING_VARIANTS", ("infer", "vjp"))
    groups = list(verify_model(program(name), open_device("cpu", dtype), dtype, train=True, batch=2))
    assert not [group for group in groups if not group.passed]


@pytest.mark.parametrize("name", TEXTS)
def test_plans(name: str) -> None:
    """Memory of all targets, where slices of one root are disjoint and live together."""
    model = program(name)
    for target in ("cpu", "sm_90"):
        for plan in plans_of(model, target):
            check_plan(model, plan, 200)


FREE = ("heads", "a dense block", "a U", "pools")  # of operands that must be copied


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", FREE)
def test_nothing_is_moved(name: str, variant: str) -> None:
    """Forward and backward: no step concatenates, slices or copies."""
    plan = compile_plan(program(name), variant, "sm_90", "bfloat16")
    moving = (ops.Concat, ops.ChannelSlice, ops.Split, ops.Identity)
    for schedule in plan.schedules:
        assert not [step.name for step in schedule.steps if isinstance(step.op, moving)]


def test_without_the_pass() -> None:
    """Concatenations that can't be places alone are steps, and the numbers are the same."""
    name = "one value in two"
    for without in (frozenset(), frozenset({"place_concats"})):
        kinds = [node.op for node in optimise(program(name), "infer", without).walk()]
        assert any(isinstance(op, ops.Identity) for op in kinds) == (not without)
        groups = list(
            verify_model(program(name), open_device("cpu", "float64"), "float64", train=True, without=without)
        )
        assert not [group for group in groups if not group.passed]
        assert any(group.kernel == "concat" for group in groups) == bool(without)
