"""Statements without filters: activations, pools, norms, and what moves pixels or channels."""

from __future__ import annotations

import pytest

from cnnc.ir import ops
from cnnc.ir.params import Init
from cnnc.ir.types import Element
from cnnc.ir.window import Window
from tests.frontend.layer_text import expanded, model_of, node_of, nodes_of, output_of, specs_of

ACTIVATIONS = {
    "relu": ops.Activation("relu"),
    "tanh": ops.Activation("tanh"),
    "sigmoid": ops.Activation("sigmoid"),
    "softmax": ops.Softmax(),
    "leaky_relu": ops.Activation("leaky_relu", 0.1),  # the lectures' slope
    "leaky_relu(0.01)": ops.Activation("leaky_relu", 0.01),
    "elu": ops.Activation("elu", 1.0),
    "elu(0.5)": ops.Activation("elu", 0.5),
    "prelu": ops.PRelu(),
    "scaled_tanh": ops.Activation("scaled_tanh"),
    "hard_sigmoid": ops.Activation("hard_sigmoid"),
    "softsign": ops.Activation("softsign"),
    "sign": ops.Activation("sign", 0.0),
    "sign(-3)": ops.Activation("sign", -3.0),
}


@pytest.mark.parametrize("written", ACTIVATIONS)
def test_activations_are_statements_and_options(written: str) -> None:
    kind = written.partition("(")[0]
    assert node_of(f"a: {written}", "a").op == ACTIVATIONS[written]
    for statement in ("conv 2 1x1", "deconv 2 1x1", "dwconv 1x1", "fc 2", "subsample 2x2", "bn"):
        node = node_of(f"a: {statement} {written}", f"a.{kind}")
        assert node.op == ACTIVATIONS[written]
    assert node_of(f"a: sepconv 2 1x1 {written}", f"a.pointwise.{kind}").op == ACTIVATIONS[written]
    assert node_of(f"relu\na: add(relu1, input) {written}", f"a.{kind}").op == ACTIVATIONS[written]


def test_prelu_has_a_slope_for_each_channel() -> None:
    specs = specs_of("train { optimizer sgd decay=weights }\np: prelu\nc: conv 3 1x1 bn prelu(0.1)")
    assert (specs["p.weight"].torch_shape, specs["p.weight"].init) == ((4,), Init("constant", values=(0.25,)))
    assert specs["c.prelu.weight"].torch_shape == (3,)
    assert specs["c.prelu.weight"].init.values == (0.1,)
    assert not specs["p.weight"].decay
    assert not specs["c.prelu.weight"].decay


def test_an_l2_pool_is_the_root_of_a_sum_of_squares() -> None:
    model = model_of("POOL: 3x3/2, ceil\np: l2pool")
    assert nodes_of(model) == ["p.square mul", "p sum_pool", "p.sqrt activation"]
    assert model.graph["p"].op == ops.SumPool(Window((3, 3), (2, 2), ceil=True))
    assert model.graph["p.sqrt"].op == ops.Activation("sqrt")
    assert model.output_shape == (4, 4, 4)


def test_lenets_subsampling() -> None:
    body = "train { optimizer sgd decay=weights }\nS2: subsample 2x2 scaled_tanh => 14x14x6"
    model = model_of(body, "28x28x6")
    assert nodes_of(model) == [
        "S2 sum_pool",
        "S2.scale channel_scale",
        "S2.add_bias bias_add",
        "S2.scaled_tanh activation",
    ]
    specs = specs_of(body, "28x28x6")
    assert {name: (spec.torch_shape, spec.init, spec.decay) for name, spec in specs.items()} == {
        "S2.weight": ((6,), Init("uniform", 4), False),
        "S2.bias": ((6,), Init("uniform", 4), False),
    }


def test_local_contrast_normalisation_is_composed() -> None:
    model = model_of("n: lcn 5x3 eps=0.5")
    assert nodes_of(model) == [
        "n.mean conv",
        "n.minus scale",
        "n.means linear",
        "n.centred add",
        "n.squares mul",
        "n.variance conv",
        "n.inverse activation",
        "n.inverses linear",
        "n mul",
    ]
    assert model.listed() == ()
    specs = {spec.name: spec for spec in model.params()}
    assert specs["n.window"].torch_shape == (1, 4, 5, 3)
    assert specs["n.window"].init == Init("gaussian", values=(1.25,))
    assert (specs["n.ones"].torch_shape, specs["n.ones"].init) == ((4, 1), Init("ones"))
    assert model.graph["n.mean"].op == model.graph["n.variance"].op == ops.Conv(Window((5, 3), pad=(2, 2, 1, 1)))
    assert model.graph["n.inverse"].op == ops.Activation("inverse_deviation", 0.5)
    assert node_of("n: lcn 3x3", "n.inverse").op == ops.Activation("inverse_deviation", 1.0)
    assert all(model.graph[name].types[0].element is Element.REAL for name in ("n.window", "n.ones"))


def test_local_response_normalisation_is_alexnets_unless_told() -> None:
    assert node_of("n: lrn", "n").op == ops.Lrn(5, 1e-4, 0.75, 2.0)
    assert node_of("n: lrn n=3 alpha=2 beta=0.5 k=1", "n").op == ops.Lrn(3, 2.0, 0.5, 1.0)
    assert node_of("LRN: n=7, k=1\nn: lrn k=3", "n").op == ops.Lrn(7, 1e-4, 0.75, 3.0)
    model = model_of("POOL: 2x2\nCONV: 3x3, same\nOrder: CLP CL\nNf: 3 5\nLRN: n=3")
    assert [name for name in nodes_of(model) if "lrn" in name] == ["lrn1 lrn", "lrn2 lrn"]


def test_batch_norm_without_gamma() -> None:
    specs = specs_of("BN: nogamma, eps=1e-3\nbn\nc: conv 2 1x1 bn\nBN: momentum=0.5\nbn relu")
    gammas = {name: specs[name].listed for name in ("bn1.weight", "c.bn.weight", "bn2.weight")}
    assert gammas == {"bn1.weight": False, "c.bn.weight": False, "bn2.weight": True}
    assert (specs["bn1.weight"].init, specs["bn1.weight"].trainable) == (Init("ones"), False)
    listed = [spec.name for spec in model_of("b: bn nogamma").listed()]
    assert listed == ["b.bias", "b.running_mean", "b.running_var"]


def test_expand_brings_gamma_back_where_a_default_line_took_it() -> None:
    assert expanded("BN: nogamma\nconv 2 1x1 bn\nBN: eps=0.5\nbn tanh") == [
        "BN: eps=1e-05, momentum=0.1, nogamma",
        "conv1: conv 2 1x1 bn => 8x8x2",
        "BN: eps=0.5, momentum=0.1",
        "bn1: bn tanh => 8x8x2",
    ]


@pytest.mark.parametrize(
    ("statement", "op", "shape"),
    [
        ("maxout 2", ops.Maxout(2), (8, 8, 2)),
        ("shuffle 2", ops.ChannelShuffle(2), (8, 8, 4)),
        ("upsample 2", ops.Upsample((2, 2)), (16, 16, 4)),
        ("upsample (2,3) bilinear", ops.Upsample((2, 3), "bilinear"), (16, 24, 4)),
        ("upsample 3 nearest", ops.Upsample((3, 3), "nearest"), (24, 24, 4)),
        ("zeropad 1", ops.ZeroPad((1, 1, 1, 1)), (10, 10, 4)),
        ("zeropad (1,0)", ops.ZeroPad((1, 1, 0, 0)), (10, 8, 4)),
        ("zeropad (1,2,3,0)", ops.ZeroPad((1, 2, 3, 0)), (11, 11, 4)),
        ("crop 5x8", ops.Crop((1, 0), (5, 8)), (5, 8, 4)),
        ("crop 4x4 offset=1", ops.Crop((1, 1), (4, 4)), (4, 4, 4)),
        ("crop 4x4 offset=(0,4)", ops.Crop((0, 4), (4, 4)), (4, 4, 4)),
        ("scale 0.2", ops.Scale(0.2), (8, 8, 4)),
        ("scale -1", ops.Scale(-1.0), (8, 8, 4)),
        ("scale", ops.ChannelScale(), (8, 8, 4)),
        ("globalavgpool", ops.GlobalAvgPool(), (4,)),
        ("flatten", ops.Flatten(), (256,)),
        ("dropout 0.7", ops.Dropout(0.7, 0), (8, 8, 4)),
    ],
)
def test_layers_of_one_op(statement: str, op: ops.Op, shape: tuple[int, ...]) -> None:
    model = model_of(f"x: {statement}")
    assert model.graph["x"].op == op
    assert model.output_shape == shape


def test_layers_of_vectors() -> None:
    body = "bn relu\nmaxout 2\nshuffle 3\nscale\nscale 2\nprelu\ndropout\nlrn\nadd(scale1, scale2)\nconcat(add1, input)"
    assert output_of(body, "12") == (18,)


def test_a_learned_scale_starts_at_one() -> None:
    spec = specs_of("train { optimizer sgd decay=weights }\ns: scale")["s.weight"]
    assert (spec.torch_shape, spec.init, spec.decay) == ((4,), Init("ones"), False)


def test_a_crop_like_another_layer() -> None:
    body = "a: conv 2 4x4\nzeropad 5\nc: crop like a offset=2\ncrop like input"
    with pytest.raises(Exception, match="a crop of 8x8 is larger than its input 5x5"):
        model_of(body)
    model = model_of(body.removesuffix("\ncrop like input"))
    assert model.graph["c"].op == ops.Crop((2, 2), (5, 5))
    assert expanded(body.removesuffix("\ncrop like input"))[-1] == "c: crop like a offset=2 => 5x5x2"
    assert node_of("a: conv 2 4x4\nzeropad 5\nc: crop like a", "c").op == ops.Crop((5, 5), (5, 5))


def test_statements_in_full_are_their_own_expansion() -> None:
    lines = [
        "a: l2pool 3x3/2 pad=1 ceil",
        "b: avgpool 2x2/1 same countpad",
        "c: subsample 2x2/2 elu(2.0)",
        "d: lcn 3x3 eps=0.25",
        "e: lrn n=3 alpha=0.001 beta=0.5 k=1.0",
        "f: bn eps=0.01 momentum=0.2 nogamma relu",
        "g: upsample (2,1) bilinear",
        "h: zeropad (0,1,2,3)",
        "i: crop 3x2 offset=(1,0)",
        "j: shuffle 2",
        "k: scale 0.5",
        "l: scale",
        "m: maxout 2",
        "n: leaky_relu(0.2)",
        "o: sign(-0.5)",
        "p: dropout 0.25",
    ]
    assert [line.partition(" =>")[0] for line in expanded("\n".join(lines), "16x16x4")] == lines
