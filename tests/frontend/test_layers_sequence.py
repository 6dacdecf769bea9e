"""1-D nets: written ``LxC``, built ``Lx1xC``, with PyTorch's 1-D weights."""

from __future__ import annotations

import pytest

from cnnc.errors import ProgramError
from cnnc.frontend import load
from cnnc.ir import ops
from cnnc.ir.window import Window
from cnnc.source import Source
from tests.frontend.layer_text import SEQUENCE, error_of, expanded, model_of, node_of, output_of, specs_of


@pytest.mark.parametrize(
    ("statement", "window", "shape"),
    [
        ("conv 3 f=5", Window((5, 1)), (12, 3)),
        ("conv 3 f=2 causal dilation=4", Window((2, 1), pad=(4, 0, 0, 0), dilation=(4, 1)), (16, 3)),
        ("conv 3 f=3 causal s=2", Window((3, 1), (2, 1), (2, 0, 0, 0)), (8, 3)),
        ("conv 3 f=4 s=2 same", Window((4, 1), (2, 1), (1, 2, 0, 0)), (8, 3)),
        ("conv 3 f=3 s=3 same=tf", Window((3, 1), (3, 1), (1, 1, 0, 0)), (6, 3)),
        ("conv 3 f=3 pad=2", Window((3, 1), pad=(2, 2, 0, 0)), (18, 3)),
        ("conv 3 f=3 pad=(2,0)", Window((3, 1), pad=(2, 0, 0, 0)), (16, 3)),
        ("dwconv f=3 m=2", Window((3, 1)), (14, 8)),
        ("maxpool f=3", Window((3, 1), (3, 1)), (5, 4)),
        ("avgpool f=3 s=2 ceil", Window((3, 1), (2, 1), ceil=True), (8, 4)),
        ("l2pool f=2", Window((2, 1), (2, 1)), (8, 4)),
        ("subsample f=2", Window((2, 1), (2, 1)), (8, 4)),
        ("deconv 3 f=4 s=2 same", Window((4, 1), (2, 1), (1, 1, 0, 0)), (32, 3)),
    ],
)
def test_windows_run_along_the_length(statement: str, window: Window, shape: tuple[int, ...]) -> None:
    node = node_of(f"x: {statement}", "x", SEQUENCE)
    assert node.op.window == window  # type: ignore[attr-defined]
    assert output_of(statement, SEQUENCE) == shape


def test_the_model_is_a_sequence_and_its_graph_has_images_of_one_column() -> None:
    model = model_of("conv 8 f=1", "64x32")
    assert model.sequence
    assert model.input_shape == (64, 1, 32)
    assert model.graph["conv1"].types[0].shape == (64, 1, 8)
    assert not model_of("conv 8 1x1").sequence


def test_weights_have_pytorchs_1d_shapes() -> None:
    body = "a: conv 8 f=3 bias=position\nb: deconv 6 f=2 groups=2\nc: dwconv f=5\nd: sepconv 3 f=2\nfc 2"
    shapes = {name: (spec.torch_shape, spec.shape) for name, spec in specs_of(body, SEQUENCE).items()}
    assert shapes["a.weight"] == ((8, 4, 3), (8, 3, 1, 4))
    assert shapes["a.bias"] == ((8, 14), (14, 1, 8))
    assert shapes["b.weight"] == ((8, 3, 2), (8, 2, 1, 3))
    assert shapes["c.weight"] == ((6, 1, 5), (6, 5, 1, 1))
    assert shapes["d.pointwise.weight"] == ((3, 6, 1), (3, 1, 1, 6))
    assert shapes["fc1.weight"] == ((2, 30), (2, 30))


def test_other_layers_of_sequences() -> None:
    body = (
        "upsample 2 bilinear => 32x4\nzeropad (2,1) => 35x4\ncrop like upsample1 offset=3 => 32x4\nlcn f=3\n"
        "lrn\nbn\nprelu\nmaxout 2 => 32x2\nscale\nsoftmax\nglobalavgpool => 2"
    )
    model = model_of(body, SEQUENCE)
    graph = model.graph
    assert graph["upsample1"].op == ops.Upsample((2, 1), "bilinear")
    assert graph["zeropad1"].op == ops.ZeroPad((2, 1, 0, 0))
    assert graph["crop1"].op == ops.Crop((3, 0), (32, 1))
    assert graph["lcn1.mean"].op == ops.Conv(Window((3, 1), pad=(1, 1, 0, 0)))


def test_merges_and_shortcuts_of_sequences() -> None:
    model = model_of("add { | conv 6 f=3 s=2 same | shortcut A } relu\nadd { | conv 6 f=1 s=2 | shortcut B }", SEQUENCE)
    assert model.graph["shortcut1"].op == ops.PadShortcut((2, 1), 6)
    assert model.graph["shortcut2"].op == ops.Conv(Window((1, 1), (2, 1)))
    assert model.output_shape == (4, 6)


def test_a_layer_of_wavenet() -> None:
    """networks.md 1.20: filter and gate have 2,080 parameters, skip 2,112, residual 1,056."""
    body = (
        "x: conv 32 f=2 causal dilation=8 tanh\nfrom input\ng: conv 32 f=2 causal dilation=8 sigmoid\nz: mul(x, g)\n"
        "skip: conv 64 f=1\nadd { | from z; res: conv 32 f=1 | from input } => 64x32"
    )
    counts: dict[str, int] = {}
    for name, spec in specs_of(body, "64x32").items():
        layer = name.rpartition(".")[0]
        counts[layer] = counts.get(layer, 0) + spec.count
    assert counts == {"x": 2080, "g": 2080, "skip": 2112, "res": 1056}


def test_expand_writes_sequences() -> None:
    lines = [
        "a: conv 6 f=3 s=2 same nobias bn tanh",
        "b: conv 6 f=2 causal dilation=4",
        "c: deconv 6 f=4 s=2 pad=(1,0) groups=3",
        "d: dwconv f=3 pad=1 m=2",
        "e: maxpool f=2 s=2 ceil",
        "f: subsample f=2 s=1",
        "g: upsample 3 nearest",
        "h: zeropad (1,0)",
        "i: zeropad 2",
        "j: crop like h offset=1",
        "k: shortcut A s=2 width=20",
        "l: lcn f=5 eps=1.0",
    ]
    assert [line.partition(" =>")[0] for line in expanded("\n".join(lines), "32x4")] == lines


ERRORS = {
    "conv 4 3x3": ("a kernel along a sequence has one extent", "3x3", "write `f=3`"),
    "conv 4 f=(1,2)": ("a kernel along a sequence has one extent", "f=(1,2)", "write `f=3`"),
    "conv 4": ("`conv` has no filter size", "conv", "for example `conv 64 f=3`, or a line `CONV: f=3`"),
    "maxpool": ("`maxpool` has no size", "maxpool", "for example `maxpool f=2`, or a line `POOL: f=2, s=2`"),
    "lcn": ("`lcn` has no size", "lcn", "for example `lcn f=9`"),
    "conv 4 f=2 s=(1,2)": ("stride along a sequence is one number", "(1,2)", ""),
    "conv 4 f=2 pad=(1,2,3,4)": ("padding with 4 numbers", "pad=(1,2,3,4)", "write one number or (before,after)"),
    "upsample (2,1)": ("a factor along a sequence is one number", "(2,1)", ""),
    "zeropad (1,2,3,4)": ("a border with 4 numbers", "(1,2,3,4)", "write one number or (before,after)"),
    "crop like input offset=(1,2)": ("an offset with 2 numbers", "offset=(1,2)", "write one number"),
    "crop 8x8": ("a sequence is cropped to another's length", "8x8", "write `crop like` and the name of a layer"),
    "conv 4 f=17": (
        "kernel 17 does not fit its input 16x4 (pad 0)",
        "f=17",
        "the input is the program's own; pad=1 or `same` would make it fit",
    ),
    "conv 4 f=9 dilation=3 pad=(1,2)": (
        "kernel 9 does not fit its input 16x4 (pad (1,2)); dilated it spans 25",
        "f=9",
        "the input is the program's own; pad=5 or `same` would make it fit",
    ),
    "conv 4 f=3 => 16x4": ("`conv1` gives 14x4, not 16x4", "16x4", ""),
    "conv 4 f=3 => 16x1x4": ("`conv1` gives 14x4, not 16x1x4", "16x1x4", "a sequence is written `14x4`"),
    "fc 3\nconv 4 f=2": ("conv needs a sequence LxC, not 3", "conv", "the input is the output of `fc1` (line 2)"),
    "fc 3\nlcn f=2": ("lcn needs a sequence LxC, not 3", "lcn", "the input is the output of `fc1` (line 2)"),
    "a: conv 4 f=2\nconcat(a, input)": (
        "`concat` needs equal lengths: `a` 15x4, `input` 16x4",
        "input",
        "`crop like` and a layer's name cut a sequence to another's length",
    ),
    "maxpool f=2\ncrop like input": (
        "a crop of 16 is larger than its input 8",
        "input",
        "the input is the output of `maxpool1` (line 2)",
    ),
}


@pytest.mark.parametrize("body", ERRORS)
def test_errors_speak_of_sequences(body: str) -> None:
    assert error_of(body, SEQUENCE) == ERRORS[body]


def test_four_extents_are_no_input() -> None:
    with pytest.raises(ProgramError, match="an input with 4 extents"):
        load(Source("t", "input 2x3x4x5\nrelu"))
