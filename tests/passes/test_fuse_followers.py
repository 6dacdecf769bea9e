"""Element-wise ops behind kernels that sum what they make."""

from __future__ import annotations

import pytest

from cnnc.frontend import load
from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node
from cnnc.ir.model import Model
from cnnc.passes.fuse_followers import fuse_followers, refusal
from cnnc.passes.pipelines import optimise
from cnnc.passes.roofline import roofline_us
from cnnc.passes.tiles import ROW_SUMS
from cnnc.runtime.device import open_device
from cnnc.runtime.verify import verify_model
from cnnc.source import Source

LAYER = "bn relu; conv 8 1x1 nobias bn relu; conv 3 3x3 same nobias"
DENSE = f"input 5x6x3\nconv 4 3x3 nobias\nrepeat 3 {{ concat {{ | identity | {LAYER} }} }}\nbn relu\nfc 3"
WITHOUT = frozenset({"fuse_followers", "fuse_prologues"})


def _model(text: str) -> Model:
    return load(Source("<test>", text))


def _summing(graph: Graph) -> list[Node]:
    """Fused kernels with a sum and something element-wise behind it."""
    found = []
    for node in graph.walk():
        parts = [type(part.op) for part in node.op.parts] if isinstance(node.op, ops.Fused) else []
        sums = [place for place, kind in enumerate(parts) if kind in ROW_SUMS]
        if sums and ops.BatchNormScale in parts[sums[0] :]:
            found.append(node)
    return found


def test_a_dense_layer_adds_to_the_blocks_gradient_where_it_makes_its_own() -> None:
    before = optimise(_model(DENSE), "loss", WITHOUT)
    after = fuse_followers(before)
    assert not _summing(before)
    assert len(_summing(after)) >= 2
    for node in _summing(after):
        assert sum(kind.batched for kind in node.types) == 1, "the unscaled gradient does not leave"
    assert roofline_us(after) < roofline_us(before)


def test_refusals() -> None:
    graph = optimise(_model(DENSE), "loss", WITHOUT)
    users = graph.users()
    reasons = set()
    for node in graph.walk():
        for index in range(len(node.types)):
            for follower, _ in users.get(node.value(index), ()):
                reason = refusal(graph, users, node, follower, node.value(index))
                reasons.add(reason and " ".join(reason.split()[1:4]))
    assert {None, "needs more than", "has another shape", "needs the sums"} <= reasons


@pytest.mark.parametrize(("device", "dtype"), [("cpu", "float64"), ("interpret", "float32")])
def test_every_group(device: str, dtype: str) -> None:
    groups = list(verify_model(_model(DENSE), open_device(device, dtype), dtype, train=True, batch=2))
    assert [group for group in groups if not group.passed] == []
