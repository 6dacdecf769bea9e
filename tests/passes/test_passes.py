"""What passes refuse, and why; and gradients against finite differences."""

import numpy as np
import pytest

from cnnc.frontend import load
from cnnc.ir import ops
from cnnc.ir.verify import verify
from cnnc.ir.window import Window
from cnnc.passes.attach_loss import attach_output_gradient
from cnnc.passes.dead_code import dead_code
from cnnc.passes.fold_batchnorm import fold_batchnorm
from cnnc.passes.fold_batchnorm import refusal as fold_refusal
from cnnc.passes.fuse import follower_of, fuse_epilogues
from cnnc.passes.gradients import GRADIENTS, JOINT_GRADIENTS, NOT_DIFFERENTIATED
from cnnc.passes.pipelines import VARIANTS, arenas_of, optimise
from cnnc.passes.pointwise_conv import pointwise_conv
from cnnc.passes.pointwise_conv import refusal as pointwise_refusal
from cnnc.passes.rewrite import Rewriter
from cnnc.passes.separate_outputs import separate_outputs
from cnnc.runtime.oracle import evaluate
from cnnc.runtime.scalars import Scalars
from cnnc.source import Source
from tests.passes.networks import Builder


def names(graph):
    return [node.name for node in graph.walk() if not isinstance(node.op, ops.LEAVES)]


def test_gradients_have_no_hole():
    tables = [set(GRADIENTS), set(JOINT_GRADIENTS), set(NOT_DIFFERENTIATED)]
    assert set.union(*tables) == set(ops.ALL_OPS)
    assert sum(map(len, tables)) == len(ops.ALL_OPS), "an op is in two tables"


def test_fusion_takes_the_whole_chain():
    net = Builder(5, 5, 3)
    net.conv("conv", 4, 3)
    net.bias("bias")
    net.op("relu", ops.Activation("relu"))
    fused = fuse_epilogues(net.done())
    assert names(fused) == ["relu"]
    assert [part.name for part in fused["relu"].op.parts] == ["conv", "bias", "relu"]


def test_fusion_stops_before_a_value_with_two_users():
    net = Builder(5, 5, 3)
    conv = net.conv("conv", 4, 3)
    net.bias("bias")
    net.op("sum", ops.Add(), conv)
    graph = net.done()
    assert follower_of(Rewriter(graph), graph["conv"], graph["conv"]) == "%conv has other users or is an output"
    assert names(fuse_epilogues(graph)) == ["conv", "sum"]


def test_fusion_stops_at_an_output_of_the_graph():
    net = Builder(5, 5, 3)
    conv = net.conv("conv", 4, 3)
    relu = net.op("relu", ops.Activation("relu"))
    assert names(fuse_epilogues(net.done(logits=conv, output=relu))) == ["conv", "relu"]


def test_fusion_reads_the_other_arm_of_an_add():
    net = Builder(5, 5, 3)
    first = net.last
    net.conv("conv", 3, 3, pad=1)
    net.last = net.graph.add("sum", ops.Add(), [first, net.last]).value()
    fused = verify(fuse_epilogues(net.done()))
    assert names(fused) == ["sum"]
    assert fused["sum"].op.parts[1].operands == (0, 2)


def test_fusion_keeps_an_argmax_that_is_read():
    net = Builder(4, 4, 2)
    window = net.op("pool", ops.MaxPool(Window((2, 2), (2, 2))))
    net.op("relu", ops.Activation("relu"))
    graph = attach_output_gradient(net.done())
    assert window.node in names(fuse_epilogues(graph))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"kernel": 1}, None),
        ({"kernel": 1, "stride": 2}, "its window is 1x1/2, not 1x1 with stride 1 and no padding"),
        ({"kernel": 1, "pad": 1}, "its window is 1x1 pad=1, not 1x1 with stride 1 and no padding"),
        ({"kernel": 3}, "its window is 3x3, not 1x1 with stride 1 and no padding"),
        ({"kernel": 1, "groups": 2}, "it has 2 groups"),
    ],
)
def test_which_convolutions_are_products(arguments, reason):
    net = Builder(5, 5, 4)
    net.conv("conv", 6, **arguments)
    graph = net.done()
    assert pointwise_refusal(graph["conv"]) == reason
    is_product = isinstance(pointwise_conv(graph)["conv"].op, ops.Linear)
    assert is_product == (reason is None)


def test_batch_norm_does_not_fold_into_a_value_with_two_users():
    net = Builder(5, 5, 3)
    conv = net.conv("conv", 3, 3)
    net.norm("bn")
    net.op("sum", ops.Add(), conv)
    graph = net.done()
    assert fold_refusal(Rewriter(graph), graph["bn"]) == "conv has other users"
    assert "bn" in names(fold_batchnorm(graph))


def test_batch_norm_does_not_fold_into_a_pool():
    net = Builder(5, 5, 3)
    net.op("relu", ops.Activation("relu"))
    net.norm("bn")
    graph = net.done()
    assert fold_refusal(Rewriter(graph), graph["bn"]) == "relu has no weights to fold into"


def test_dead_code_goes_and_the_input_stays():
    net = Builder(5, 5, 3)
    net.op("unused", ops.Activation("tanh"))
    net.last = net.graph["input"].value()
    net.op("used", ops.Activation("relu"))
    assert [node.name for node in dead_code(net.done()).walk()] == ["input", "used"]


def test_a_value_used_twice_gets_the_sum_of_its_gradients():
    """d(sum(dy * (tanh(x) + conv(tanh(x))))) against central differences in float64."""
    net = Builder(3, 4, 2)
    twice = net.op("tanh", ops.Activation("tanh"))
    net.conv("conv", 2, 3, pad=1)
    net.op("sum", ops.Add(), twice)
    model_graph = net.done()
    graph = attach_output_gradient(model_graph)
    rng = np.random.default_rng(3)
    x, dy = rng.standard_normal((2, 3, 4, 2)), rng.standard_normal((2, 3, 4, 2))
    weight = rng.standard_normal((2, 2, 3, 3))
    scalars = Scalars(2)

    def objective(x, weight):
        values = evaluate(model_graph, {"input": x}, {"conv.weight": weight}, scalars=scalars)
        return float((values[model_graph.outputs["output"]] * dy).sum())

    values = evaluate(graph, {"input": x, "doutput": dy}, {"conv.weight": weight}, scalars=scalars)
    dx = values[graph.outputs["dinput"]]
    dw = values[graph.outputs["grad:conv.weight"]].transpose(0, 3, 1, 2)
    for array, gradient, place in ((x, dx, 0), (weight, dw, 1)):
        for index in [tuple(i) for i in rng.integers(0, array.shape, (12, array.ndim))]:
            step = np.zeros_like(array)
            step[index] = 1e-6
            low, high = [x, weight], [x, weight]
            low[place], high[place] = array - step, array + step
            numeric = (objective(*high) - objective(*low)) / 2e-6
            assert numeric == pytest.approx(gradient[index], rel=1e-6, abs=1e-8)


def test_an_output_that_is_an_input_becomes_a_copy():
    net = Builder(4)
    given = net.last
    graph = separate_outputs(net.done(output=given, same=given))
    assert names(graph) == ["input.copy", "input.copy.2"]
    assert [value.node for value in graph.outputs.values()] == ["input.copy", "input.copy.2"]


def test_two_outputs_of_one_value_are_separated_and_others_stay():
    net = Builder(4)
    relu = net.op("relu", ops.Activation("relu"))
    tanh = net.op("tanh", ops.Activation("tanh"))
    graph = separate_outputs(net.done(a=relu, b=relu, c=tanh))
    assert [value.node for value in graph.outputs.values()] == ["relu", "relu.copy", "tanh"]


def test_flattening_decides_how_weights_are_stored_before_dropout_goes():
    """Training keeps the dropout between flatten and fc, so inference must read the weight as training stores it."""
    model = load(Source("<test>", "input 4x3x2\nflatten\ndropout 0.5\nfc 5"))
    (weight, _) = arenas_of(model).params.specs
    assert weight.perm == (0, 1)
    for variant in VARIANTS:
        leaves = [node.op.spec for node in optimise(model, variant).walk() if isinstance(node.op, ops.Parameter)]
        assert weight in leaves
