"""Two products in one kernel: which pairs, why not others, and that nothing changes."""

from __future__ import annotations

import pytest

from cnnc.frontend import load
from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node
from cnnc.ir.model import Model
from cnnc.passes import fuse_back_to_back as module
from cnnc.passes.fuse_back_to_back import fuse_back_to_back, refusal
from cnnc.passes.pipelines import optimise
from cnnc.passes.roofline import roofline_us
from cnnc.runtime.device import open_device
from cnnc.runtime.verify import verify_model
from cnnc.source import Source

BLOCK = (
    "CONV: same, nobias, bn, relu\n"
    "block bottleneck(w, s=1) { add {\n| conv w 1x1/s; conv w 3x3; conv 4*w 1x1 linear\n| shortcut B\n} relu }\n"
)
RESNET = f"input 56x56x64\n{BLOCK}bottleneck(64) x3\nglobalavgpool\nfc 10"
SMALL = f"input 5x7x8\n{BLOCK}bottleneck(8) x3\nbottleneck(5) x2 first(s=2)\nglobalavgpool\nfc 3"
WITHOUT = frozenset({"fuse_back_to_back"})


def _model(text: str) -> Model:
    return load(Source("<test>", text))


def _products(node: Node) -> int:
    parts = [part.op for part in node.op.parts] if isinstance(node.op, ops.Fused) else [node.op]
    return sum(isinstance(part, ops.Conv | ops.Linear) for part in parts)


def _before(text: str) -> Graph:
    return optimise(_model(text), "infer", WITHOUT)


def test_an_expansion_and_the_next_reduction_are_one_kernel() -> None:
    """The expansion's output leaves on the way: the next block's shortcut reads it."""
    before = _before(RESNET)
    after = fuse_back_to_back(before)
    pairs = [node for node in after.walk() if len(node.types) == 2 and _products(node) > 1]
    assert pairs
    for node in pairs:
        assert isinstance(node.op, ops.Fused)
        assert isinstance(node.op.anchor, ops.Linear)
        assert node.op.main > 0
        assert [kind.shape for kind in node.types] == [(56, 56, 64), (56, 56, 256)]
    assert roofline_us(after) < roofline_us(before)


def test_a_product_behind_many_columns_is_not_computed_again_and_again() -> None:
    """The first of 2048 columns would be computed sixteen times."""
    before = _before("input 14x14x256\nconv 512 3x3 same relu\nconv 2048 1x1 relu\nfc 5")
    assert fuse_back_to_back(before) is before


REFUSED = {
    "conv 8 3x3 same groups=2 relu\nconv 8 1x1": "has groups",
    "maxpool 2x2\nconv 8 1x1": "is no product",
    "a: conv 8 3x3 same relu\nadd {\n| conv 8 1x1\n| from a\n}": "twice",
    "conv 8 3x3 same relu\nadd {\n| conv 8 1x1 relu\n| conv 8 3x3 same\n}": "another reader",
}


@pytest.mark.parametrize("text", REFUSED)
def test_refusals(text: str) -> None:
    """The last one: the second product adds what another kernel makes of the first one's value."""
    graph = optimise(_model(f"input 8x8x8\n{text}"), "infer", WITHOUT | {"fuse_pools", "fuse_windows", "fuse_products"})
    users = graph.users()
    pairs = [pair for node in graph.walk() if (pair := module._pair(graph, node)) is not None]
    reasons = [refusal(graph, users, *pair) or "" for pair in pairs]
    assert any(REFUSED[text] in reason for reason in reasons), (reasons, [n.name for n in graph.walk()])


@pytest.mark.parametrize(("device", "dtype"), [("cpu", "float64"), ("interpret", "float32")])
def test_every_group(device: str, dtype: str) -> None:
    groups = list(verify_model(_model(SMALL), open_device(device, dtype), dtype, train=False))
    assert [group for group in groups if not group.passed] == []
    assert sum(group.kernel.count("linear") + group.kernel.count("conv") > 1 for group in groups) >= 4
