"""Channel ops and transposed convolutions compiled for GPUs that are not there."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cnnc.codegen import generate
from cnnc.codegen.build import Binaries, build
from cnnc.ir import ops
from cnnc.ir.graph import Graph
from cnnc.ir.model import Model
from cnnc.ir.training import TrainConfig
from cnnc.ir.types import TensorType
from cnnc.ir.window import Window
from cnnc.passes.pipelines import compile_plan
from cnnc.source import Source
from tests.codegen.one_step import plan_of
from tests.passes.networks import Builder

DOUBLING = Window((4, 4), (2, 2), (1, 1, 1, 1))


def channel_ops(width: int) -> Graph:
    """Each op across channels once, with something in its epilogue, forward and backward."""
    net = Builder(9, 8, 3)
    start = net.conv("stem", width, 3, pad=1)
    net.op("lrn", ops.Lrn())
    left = net.op("lrn.relu", ops.Activation("relu"))
    net.op("power", ops.Lrn(3, 0.1, 0.6, 1.0))
    net.op("power.drop", ops.Dropout(0.3, 0))
    net.op("concat", ops.Concat(), start, left)
    net.op("shuffle", ops.ChannelShuffle(3))
    net.norm("bn")
    net.op("maxout", ops.Maxout(3))
    net.op("maxout.tanh", ops.Activation("tanh"))
    net.conv("last", width, 3)
    return net.done()


def deconvs(width: int) -> Graph:
    """Doubling and FCN's 64x64 with stride 32, trained and fixed, plain and in groups, with what may follow."""
    net = Builder(6, 5, 3)
    net.conv("stem", width, 3, pad=1)
    net.deconv("double", 2 * width, DOUBLING)
    net.norm("double.bn")
    net.op("double.relu", ops.Activation("relu"))
    net.op("double.drop", ops.Dropout(0.3, 0))
    net.deconv("score", 21, Window((3, 3), (1, 1), (1, 1, 1, 1)))
    net.deconv("fcn", 21, Window((64, 64), (32, 32)), fixed=True)
    net.bias("fcn.bias")
    net.deconv("each", 21, Window((2, 2), (3, 3)), groups=21)
    net.op("each.tanh", ops.Activation("tanh"))
    return net.done()


def built(graphs: Sequence[Graph], target: str, dtype: str) -> Binaries:
    """Forward and backward; raises where a kernel spills, is serialised or does not compile."""
    modules = {}
    for number, graph in enumerate(graphs):
        shape = graph["input"].types[0].shape
        model = Model("hand", graph, shape, TrainConfig(), Source("hand.cnn", "model hand\n"))
        modules[f"net{number}"] = generate(compile_plan(model, "vjp", target, dtype))
    return build(modules, [target])


X, PIECES = TensorType((9, 8, 24)), TensorType((9, 8, 8))
WEIGHT = TensorType((24, 4, 4, 48), False)
SINGLE = {
    "concat": (ops.Concat(), (X, PIECES)),
    "lrn": (ops.Lrn(), (X,)),
    "lrn_grad": (ops.LrnGrad(), (X, X)),
    "maxout_grad": (ops.MaxoutGrad(3), (PIECES, X)),
    "channel_shuffle": (ops.ChannelShuffle(3), (X,)),
    "concat_rows_2": (ops.ConcatRows(), (WEIGHT, WEIGHT)),
    "row_slice": (ops.RowSlice(3, 7), (WEIGHT,)),
    "zero_rows": (ops.Zeros(X.shape, True), ()),
    "conv_dgrad_phases": (ops.ConvDgrad(DOUBLING, (18, 16)), (X, WEIGHT)),
}


def test_kernels_meet_the_gates() -> None:
    modules = {
        name: generate(plan_of(op, types, target="sm_90", dtype="bfloat16")) for name, (op, types) in SINGLE.items()
    }
    binaries = build(modules, ["sm_90"])
    reports = {binaries.work.requests[key].kernel: done.report for key, done in binaries.compiled.items()}
    assert set(reports) == set(SINGLE)
    assert {name for name, report in reports.items() if report.matrix} == {"conv_dgrad_phases"}


@pytest.mark.slow
@pytest.mark.parametrize("width", [12, 48])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100", "gfx942"])
def test_everywhere(target: str, dtype: str, width: int) -> None:
    binaries = built((channel_ops(width), deconvs(width)), target, dtype)
    assert all(compiled.report.spills == 0 for compiled in binaries.compiled.values())
