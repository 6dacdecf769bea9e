"""A network whose plan is made for a card with tensor descriptors, its kernels in the interpreter, group by group."""

from __future__ import annotations

from cnnc.frontend import load
from cnnc.passes.pipelines import compile_plan
from cnnc.runtime.device import HostDevice
from cnnc.runtime.verify import verify_model
from cnnc.source import Source

NET = """
model block
input 2x1x3
CONV: same, nobias, bn, relu
conv 64 1x1
add {
| conv 64 3x3/2; conv 72 3x3 linear
| conv 72 1x1/2 linear
} relu
conv 64 1x1
globalavgpool
fc 10 softmax
"""
BATCH = 65


def test_forward_and_backward() -> None:
    """Residual block in training: batch norms on the way to products and behind them, gradients of every kind."""
    model = load(Source("block.cnn", NET))
    device = HostDevice("interpret")
    device.target = "sm_90"
    schedule = compile_plan(model, "loss", device.target, "bfloat16").schedule(BATCH)
    described = [step.name for step in schedule.steps if step.tile is not None and step.tile.descriptors]
    assert len(described) >= 8  # forward, backward, and weights: several of them in one kernel with others
    groups = list(verify_model(model, device, "bfloat16", train=True, batch=BATCH))
    assert set(described) <= {group.name for group in groups}
    assert not [group for group in groups if not group.passed]
