"""Statements with weights: what they become, their parameters, and what ``expand`` says of them."""

from __future__ import annotations

import pytest

from cnnc.ir import ops
from cnnc.ir.params import Init
from cnnc.ir.printer import print_graph
from cnnc.ir.types import Element
from cnnc.ir.window import Window
from tests.frontend.layer_text import expanded, model_of, node_of, nodes_of, output_of, specs_of


def test_a_sparse_conv_masks_its_weights() -> None:
    """LeNet's C3: filter k reads the input maps of row k alone."""
    body = "c: conv 3 3x3 connect=[0 1 | 2 | 0 3] tanh"
    model = model_of(body)
    assert nodes_of(model) == ["c.connect mask_weight", "c conv", "c.add_bias bias_add", "c.tanh activation"]
    assert [value.node for value in model.graph["c.connect"].operands] == ["c.weight", "c.mask"]
    mask = specs_of(body)["c.mask"]
    assert mask.init == Init("values", values=(1, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 1))
    assert (mask.torch_shape, mask.listed, mask.trainable) == ((3, 4), False, False)
    assert [spec.name for spec in model.listed()] == ["c.weight", "c.bias"]
    assert specs_of(body)["c.weight"].torch_shape == (3, 4, 3, 3)


def test_a_position_bias_has_one_element_for_each_position() -> None:
    body = "c: conv 2 3x3/2 bias=position relu"
    spec = specs_of(body)["c.bias"]
    assert (spec.torch_shape, spec.shape, spec.init) == ((2, 3, 3), (3, 3, 2), Init("uniform", 36))
    assert nodes_of(model_of(body)) == ["c conv", "c.add_bias position_bias", "c.relu activation"]
    assert not specs_of(f"train {{ optimizer sgd decay=weights }}\n{body}")["c.bias"].decay


def test_binary_weights_are_signs_of_real_masters_that_stay_bounded() -> None:
    for body in ("c: conv 2 3x3 binary", "c: fc 5 binary"):
        model = model_of(body)
        assert isinstance(model.graph["c.binarize"].op, ops.Binarize)
        assert model.graph["c"].operands[1].node == "c.binarize"
        master = model.graph["c.weight"]
        assert isinstance(master.op, ops.Parameter)
        assert (master.op.spec.clipped, master.op.spec.trainable) == (True, True)
        assert master.types[0].element is Element.ACC
        assert model.graph["c.binarize"].types[0].element is Element.REAL


def test_binary_and_sparse_together() -> None:
    assert nodes_of(model_of("c: conv 1 1x1 binary connect=[2] nobias")) == [
        "c.binarize binarize",
        "c.connect mask_weight",
        "c conv",
    ]


def test_fixed_weights_are_buffers_and_biases_are_not() -> None:
    for body in ("c: conv 2 3x3 fixed", "c: fc 5 fixed", "c: deconv 2 3x3 fixed"):
        specs = specs_of(body)
        assert (specs["c.weight"].trainable, specs["c.weight"].listed, specs["c.bias"].trainable) == (False, True, True)


@pytest.mark.parametrize(
    ("body", "values"),
    [
        ("c: conv 2 2x2 nobias weights=[+--+ | -++-]", (1, -1, -1, 1, -1, 1, 1, -1)),
        ("c: conv 2 2x2 weights=[1 -1, -1 1\n-1 1 1 -1]", (1, -1, -1, 1, -1, 1, 1, -1)),
        ("c: conv 1 1x2 weights=[1 -3]/4", (0.25, -0.75)),
        ("c: conv 1 1x2 weights=[0.5 -1e-3]", (0.5, -0.001)),
    ],
)
def test_weights_as_written_are_in_pytorchs_order(body: str, values: tuple[float, ...]) -> None:
    assert specs_of(body, "3x3x1")["c.weight"].init == Init("values", values=values)


def test_weights_of_fc_and_of_a_deconv() -> None:
    assert specs_of("c: fc 2 weights=[1 0 0 | 0 0 1]", "3")["c.weight"].init.values == (1, 0, 0, 0, 0, 1)
    assert specs_of("c: deconv 2 4x4/2 weights=bilinear fixed", "3x3x2")["c.weight"].init == Init("bilinear")


def test_a_deconv_is_a_convs_gradient() -> None:
    model = model_of("d: deconv 6 4x4/2 pad=1 groups=2 bn leaky_relu")
    node = model.graph["d"]
    assert node.op == ops.ConvDgrad(Window((4, 4), (2, 2), (1, 1, 1, 1)), (16, 16), 2)
    assert nodes_of(model) == ["d conv_dgrad", "d.add_bias bias_add", "d.bn batch_norm", "d.leaky_relu activation"]
    weight = node.operands[1]
    op = model.graph[weight.node].op
    assert isinstance(op, ops.Parameter)
    assert (op.spec.torch_shape, op.spec.shape) == ((4, 3, 4, 4), (4, 4, 4, 3))
    assert op.spec.init == Init("uniform", 3 * 16)


@pytest.mark.parametrize(
    ("statement", "shape", "pad"),
    [
        ("deconv 2 4x4/2", (18, 18, 2), (0, 0, 0, 0)),
        ("deconv 2 3x3/2 same", (16, 16, 2), (0, 1, 0, 1)),
        ("deconv 2 4x4/2 same", (16, 16, 2), (1, 1, 1, 1)),
        ("deconv 2 2x3/(2,3) same", (16, 24, 2), (0, 0, 0, 0)),
        ("deconv 2 3x3 dilation=2", (12, 12, 2), (0, 0, 0, 0)),
        ("deconv 2 3x3 same dilation=2", (8, 8, 2), (2, 2, 2, 2)),
        ("deconv 2 5x5/3 pad=(1,2,0,3)", (23, 23, 2), (1, 2, 0, 3)),
        ("deconv 21 64x64/32", (288, 288, 21), (0, 0, 0, 0)),
    ],
)
def test_sizes_of_deconvs(statement: str, shape: tuple[int, ...], pad: tuple[int, ...]) -> None:
    node = node_of(f"d: {statement}", "d")
    assert isinstance(node.op, ops.ConvDgrad)
    assert node.types[0].shape == shape
    assert node.op.window.pad == pad


def test_depthwise_has_a_group_for_each_channel() -> None:
    model = model_of("d: dwconv 3x3/2 same m=3 relu")
    assert model.graph["d"].op == ops.Conv(Window((3, 3), (2, 2), (1, 1, 1, 1)), 4)
    assert model.output_shape == (4, 4, 12)
    specs = {spec.name: spec for spec in model.params()}
    assert (specs["d.weight"].torch_shape, specs["d.weight"].init) == ((12, 1, 3, 3), Init("uniform", 9))
    assert specs["d.bias"].torch_shape == (12,)


def test_a_separable_conv_is_depthwise_without_anything_and_then_pointwise() -> None:
    assert expanded("s: sepconv 6 3x3/2 same m=2 bn relu nobias => 4x4x6") == [
        "s.depthwise: dwconv 3x3/2 same m=2 nobias => 4x4x8",
        "s.pointwise: conv 6 1x1 nobias bn relu => 4x4x6",
    ]
    model = model_of("s: sepconv 6 3x3 nobias\nconv 3 1x1\nadd { | from s; x: conv 3 1x1 | from conv1 }")
    assert {spec.name for spec in model.params()} >= {"s.depthwise.weight", "s.pointwise.weight"}
    assert model.graph["x"].operands[0].node == "s.pointwise"


def test_xceptions_separable_conv_has_its_number_of_weights() -> None:
    specs = specs_of("s: sepconv 728 3x3 same nobias bn", "19x19x728")
    assert specs["s.depthwise.weight"].count == 6_552
    assert specs["s.pointwise.weight"].count == 529_984
    assert "s.pointwise.bn.weight" in specs


def test_distances_from_codes() -> None:
    model = model_of("flatten\nr: rbf 2 codes=[+--+ | -++-]", "2x2x1")
    assert nodes_of(model) == ["flatten1 flatten", "r rbf"]
    spec = specs_of("r: rbf 2 codes=[+--+ | -++-]/2", "4")["r.weight"]
    assert spec.init.values == (0.5, -0.5, -0.5, 0.5, -0.5, 0.5, 0.5, -0.5)
    assert (spec.torch_shape, spec.trainable, spec.listed) == ((2, 4), False, True)
    assert model.gives_distances


def test_an_image_is_flattened_before_codes_as_before_fc() -> None:
    assert expanded("r: rbf 1 codes=[+--+]", "2x2x1") == ["flatten1: flatten => 4", "r: rbf 1 codes=[+--+] => 1"]


def test_each_kind_has_its_own_default_line() -> None:
    body = (
        "CONV: relu\nDECONV: 2x2/2, nobias\nDWCONV: 3x3, same, tanh\nSEPCONV: 3x3, same, bn\nFC: sign, binary\n"
        "deconv 3\ndwconv\nsepconv 5\nconv 2 1x1\nfc 3"
    )
    assert expanded(body, "2x2x4") == [
        "deconv1: deconv 3 2x2/2 nobias => 4x4x3",
        "dwconv1: dwconv 3x3 same tanh => 4x4x3",
        "sepconv1.depthwise: dwconv 3x3 same nobias => 4x4x3",
        "sepconv1.pointwise: conv 5 1x1 bn => 4x4x5",
        "conv1: conv 2 1x1 relu => 4x4x2",
        "flatten1: flatten => 32",
        "fc1: fc 3 sign(0.0) binary => 3",
    ]


def test_statements_in_full_are_their_own_expansion() -> None:
    lines = [
        "a: conv 3 3x3/2 pad=(1,2) groups=1 elu(0.5) fixed",
        "b: conv 2 1x1 bias=position prelu(0.1) connect=[0 2 | 1]",
        "c: deconv 4 3x2/(2,1) pad=(1,0,0,1) dilation=2 bn softsign weights=bilinear",
        "d: dwconv 2x2 m=2 nobias scaled_tanh",
        "e: fc 2 hard_sigmoid binary",
    ]
    first = "\n".join(lines).replace(" groups=1", "")
    text = [line.partition(" =>")[0] for line in expanded(first)]
    assert text == [*first.splitlines()[:4], "flatten1: flatten", lines[4]]
    assert print_graph(model_of(first).graph) == print_graph(model_of(first.replace("e: ", "flatten\ne: ")).graph)


def test_vectors_and_images_of_one_pixel() -> None:
    assert output_of("fc 3 bn relu\nbn\ndropout\nfc 2\nsoftmax", "3072") == (2,)
    assert output_of("conv 5 1x1 bn\nsepconv 2 1x1\ndeconv 3 1x1", "1x1x3") == (1, 1, 3)
