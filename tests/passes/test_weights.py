"""Weights that are not their parameters: what passes rewrite, and what they leave alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cnnc.ir import ops
from cnnc.ir.graph import Graph
from cnnc.ir.model import Model
from cnnc.ir.params import Init, ParamSpec, linear_spec
from cnnc.ir.training import TrainConfig
from cnnc.ir.types import Element
from cnnc.ir.window import Window
from cnnc.passes.flatten_linear import flatten_linear
from cnnc.passes.fuse import follower_of, fuse_epilogues
from cnnc.passes.pipelines import VARIANTS, arenas_of, meaning, optimise
from cnnc.passes.pointwise_conv import pointwise_conv
from cnnc.passes.rewrite import Rewriter
from cnnc.passes.separate_outputs import separate_outputs
from cnnc.runtime.compare import canonical_output
from cnnc.runtime.oracle import evaluate
from cnnc.runtime.scalars import Scalars
from cnnc.runtime.verify import random_inputs, random_params
from cnnc.source import Source
from tests.passes.networks import Builder
from tests.pointwise_network import WeightBuilder


def as_model(graph: Graph) -> Model:
    return Model("hand", graph, graph["input"].types[0].shape, TrainConfig(), Source("<test>", ""))


def masked_linear() -> Model:
    net = Builder(3, 2, 5)
    net.op("flat", ops.Flatten())
    weight = net.param(linear_spec("fc.weight", 4, 30), Element.REAL)
    kept = tuple(float(i % 3 > 0) for i in range(4 * 30))
    mask = net.param(ParamSpec("fc.mask", (4, 30), (4, 30), (0, 1), Init("values", 0, kept), False, listed=False))
    net.op("fc", ops.Linear(), net.graph.add("fc.masked", ops.MaskWeight(), [weight, mask]).value())
    return as_model(net.done())


def binary_linear() -> Model:
    net = WeightBuilder(3, 2, 5)
    net.op("flat", ops.Flatten())
    net.binary_linear("fc", 4)
    return as_model(net.done())


@pytest.mark.parametrize("model", [masked_linear(), binary_linear()], ids=["masked", "binary"])
@pytest.mark.parametrize("graph_of", [meaning, optimise])
def test_gradients_after_a_flatten_are_torch_s(model: Model, graph_of) -> None:
    """The columns of a weight are in CHW order, however it is stored."""
    graph = graph_of(model, "vjp")
    inputs, params = random_inputs(graph, 2, 1), random_params(model, 1)
    values = evaluate(graph, inputs, params, scalars=Scalars(2))
    x = torch.tensor(inputs["input"].transpose(0, 3, 1, 2)).flatten(1)
    weight, dy = torch.tensor(params["fc.weight"]), torch.tensor(inputs["doutput"])
    mask = torch.tensor(params["fc.mask"]) if "fc.mask" in params else torch.ones_like(weight)
    used = weight * mask if "fc.mask" in params else torch.where(weight >= 0, 1.0, -1.0).double()
    dw = canonical_output(graph, "grad:fc.weight", graph.outputs["grad:fc.weight"], values[_grad(graph)])
    np.testing.assert_allclose(dw, ((dy.T @ x) * mask).numpy(), rtol=1e-12, atol=1e-12)
    dx = (dy @ used).reshape(2, 5, 3, 2).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(values[graph.outputs["dinput"]], dx, rtol=1e-12, atol=1e-12)


def _grad(graph: Graph):
    return graph.outputs["grad:fc.weight"]


def test_a_mask_by_column_keeps_its_flatten() -> None:
    """Stored anew, the weight would no longer fit the mask; so it is stored as it is, in every plan."""
    model = masked_linear()
    assert isinstance(flatten_linear(model.graph)["fc"].op, ops.Linear)
    assert [spec.perm for spec in arenas_of(model).params.specs] == [(0, 1)]
    for variant in set(VARIANTS) - {"loss"}:
        assert any(isinstance(node.op, ops.Flatten) for node in optimise(model, variant).walk()), variant


def test_signs_after_a_flatten_are_a_convolution() -> None:
    model = binary_linear()
    graph = flatten_linear(model.graph)
    assert graph["fc"].op == ops.Conv(Window((3, 2)))
    assert graph["fc.signs.krsc"].types[0].shape == (4, 3, 2, 5)
    # The old leaf is dead; what the arena stores is what is read.
    assert [spec.perm for spec in arenas_of(model).params.specs] == [(0, 2, 3, 1)]


def test_pointwise_weights_are_squeezed_below_mask_and_sign() -> None:
    net = WeightBuilder(5, 5, 4)
    net.masked("masked", 6, 1)
    net.binary("binary", 3, 1)
    graph = pointwise_conv(net.done())
    for name, element in (("masked.masked.kc", Element.REAL), ("binary.signs.kc", Element.ACC)):
        leaf = graph[graph[name].operands[0].node]
        assert isinstance(leaf.op, ops.Parameter)
        assert (len(leaf.types[0].shape), leaf.op.element) == (2, element)
    assert [type(graph[name].op) for name in ("masked", "binary")] == [ops.Linear, ops.Linear]


def test_a_product_joins_from_either_slot() -> None:
    for slots in ((0, 1), (1, 0)):
        net = Builder(5, 5, 3)
        pair = [net.last, net.conv("conv", 3, 3, pad=1)]
        net.last = net.graph.add("mul", ops.Mul(), [pair[i] for i in slots]).value()
        (fused,) = [node.op for node in fuse_epilogues(net.done()).walk() if node.operands]
        assert isinstance(fused, ops.Fused)
        assert fused.parts[1].operands == tuple((0, 2)[i] for i in slots)


def test_a_gradient_joins_behind_dy_alone() -> None:
    net = Builder(5, 5, 3)
    dy = net.last
    net.conv("conv", 3, 3, pad=1)
    net.last = net.graph.add("grad", ops.PReluGrad(), [dy, net.last, net.vector("slope")]).value()
    graph = net.done()
    assert follower_of(Rewriter(graph), graph["conv"], graph["conv"]) == "grad reads it as operand 1"


def test_a_square_does_not_join() -> None:
    net = Builder(5, 5, 3)
    square = net.conv("conv", 3, 3, pad=1)
    net.op("square", ops.Mul(), square)
    graph = net.done()
    assert follower_of(Rewriter(graph), graph["conv"], graph["conv"]) == "%conv has other users or is an output"


def test_copies_of_outputs_are_identities() -> None:
    net = Builder(4)
    graph = separate_outputs(net.done(output=net.last, same=net.last))
    assert [graph[value.node].op for value in graph.outputs.values()] == [ops.Identity(), ops.Identity()]
