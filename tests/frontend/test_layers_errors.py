"""Wrong layers: one sentence, the operand it is about, and what would help."""

from __future__ import annotations

import pytest

from tests.frontend.layer_text import IMAGE, VECTOR, error_of

OWN = "the input is the program's own"
BRACKETS = "for example `weights=[1 0 -1]/2`"
CODES = "for example `codes=[+-+- | -++-]`"

ERRORS = {
    # activations
    "relu(2)": ("`relu` takes no number", "relu(2)", "write `relu` alone"),
    "conv 4 3x3 linear(2)": ("`linear` takes no number", "linear(2)", "write `linear` alone"),
    "bn softmax(2)": ("`softmax` takes no number", "softmax(2)", "write `softmax` alone"),
    "elu(-1)": ("`elu`'s number must be zero or a positive number, not `-1`", "-1", ""),
    "conv 4 1x1 prelu(1e999)": ("`prelu`'s number must be zero or a positive number, not `1e999`", "1e999", ""),
    "sign(-1e999)": ("`sign`'s number must be a finite number, not `-1e999`", "-1e999", ""),
    "linear": ("`linear` is no layer of its own", "linear", "a fully connected layer is `fc 10`"),
    # convs
    "conv 4 3x3 causal": (
        "`causal` is for sequences such as `input 64x32`",
        "causal",
        "an image has no direction; write `pad=(top,bottom,left,right)`",
    ),
    "conv 4 3x3 bias=map": (
        "`conv` takes no `bias=map`",
        "bias=map",
        "`bias=position` gives a conv one bias for each position",
    ),
    "fc 4 bias=position": ("`fc` takes no `bias=position`", "bias=position", ""),
    "conv 3 3x3 connect=[0 1 | 2]": (
        "`connect` has 2 rows for 3 filters",
        "connect=[0 1 | 2]",
        "one row for each filter, with `|` between them",
    ),
    "conv 2 3x3 connect=[0 1 | 4]": (
        "`connect` names input map 4, but the input has 4, counted from 0",
        "connect=[0 1 | 4]",
        OWN,
    ),
    "conv 1 3x3 connect=[0.5]": (
        "`0.5` in `connect` is not an input map's number",
        "connect=[0.5]",
        "input maps count from 0",
    ),
    "conv 2 3x3 connect=[0 1 | 2 2]": ("row 2 of `connect` has an input map twice", "connect=[0 1 | 2 2]", ""),
    "conv 2 3x3 connect=[0 1 | ]": ("row 2 of `connect` has no input maps", "connect=[0 1 | ]", ""),
    "conv 2 3x3 connect=5": (
        "`connect` is a table in brackets",
        "connect=5",
        "one row of input maps for each filter: `connect=[0 1 2 | 1 2 3]`",
    ),
    "conv 2 3x3 groups=2 connect=[0 | 1]": (
        "`connect` and `groups` both say who is connected to whom",
        "connect=[0 | 1]",
        "",
    ),
    "conv 2 2x2 weights=[+- -+]": ("4 weights for a weight 2x4x2x2, which takes 32", "weights=[+- -+]", OWN),
    "conv 2 2x2 weights=bilinear": ("`weights` are numbers in brackets", "weights=bilinear", BRACKETS),
    "deconv 2 2x2 weights=3": (
        "`weights` are numbers in brackets",
        "weights=3",
        f"{BRACKETS} or `weights=bilinear`",
    ),
    "conv 2 2x2 weights=[1 2]/0": ("a divisor must be at least 1, not 0", "0", ""),
    "conv 2 2x2 weights=[1e999]": ("`weights` with a number that is too large", "[1e999]", ""),
    "conv 2 2x2 weights=[]": ("`weights` without numbers", "[]", ""),
    "conv 2 2x2 weights": ("`conv` has no option `weights`", "weights", "write `weights=` and its value"),
    "deconv 2": ("`deconv` has no filter size", "deconv", "for example `deconv 64 3x3`, or a line `DECONV: f=3`"),
    "deconv 2 2x2/3 same": (
        "`same` needs a kernel at least as large as the stride",
        "same",
        "`same` makes the output as large as the input times the stride",
    ),
    "deconv 2 2x2 pad=5": ("this padding leaves nothing of the output of 8x8 pixels", "pad=5", OWN),
    "deconv 3 4x4/2 groups=2": ("groups=2 must divide 4 input channels and 3 filters", "groups=2", OWN),
    "dwconv": ("`dwconv` has no filter size", "dwconv", "for example `dwconv 3x3`, or a line `DWCONV: f=3`"),
    "dwconv 3x3 m=0": ("`m` must be at least 1, not 0", "0", ""),
    "sepconv 8": ("`sepconv` has no filter size", "sepconv", "for example `sepconv 64 3x3`, or a line `SEPCONV: f=3`"),
    "sepconv 8 9x9": (
        "kernel 9x9 does not fit its input 8x8x4 (pad 0)",
        "9x9",
        f"{OWN}; pad=1 or `same` would make it fit",
    ),
    "sepconv 8 3x3 => 6x6x9": ("`sepconv1` gives 6x6x8, not 6x6x9", "6x6x9", ""),
    "s: sepconv 8 3x3\nconv 3 9x9": (
        "kernel 9x9 does not fit its input 6x6x8 (pad 0)",
        "9x9",
        "the input is the output of `s` (line 2); pad=2 or `same` would make it fit",
    ),
    "rbf 3": ("`rbf` needs its codes", "rbf", "for example `rbf 2 codes=[+-+- | -++-]`"),
    "rbf 3 codes=4": ("`codes` are numbers in brackets", "codes=4", CODES),
    "rbf 3 codes=[1 | 2]": ("2 codes for `rbf 3`", "codes=[1 | 2]", "one code for each class"),
    "globalavgpool\nrbf 1 codes=[1 2]": (
        "2 codes for a weight 1x4, which takes 4",
        "codes=[1 2]",
        "the input is the output of `globalavgpool1` (line 2)",
    ),
    # pools and norms
    "l2pool": ("`l2pool` has no size", "l2pool", "for example `l2pool 2x2`, or a line `POOL: f=2, s=2`"),
    "maxpool 2x2 countpad": ("`maxpool` has no option `countpad`", "countpad", "padding never wins a maximum"),
    "subsample": ("`subsample` has no size", "subsample", "for example `subsample 2x2`"),
    "subsample 2x2 countpad": (
        "`subsample` has no option `countpad`",
        "countpad",
        "it takes f=, s=, same, same=tf, valid, causal, pad=, ceil, an activation",
    ),
    "lcn": ("`lcn` has no size", "lcn", "for example `lcn 9x9`"),
    "lcn 3x3 same": ("`lcn` has no option `same`", "same", "it takes f=, eps="),
    "lcn 3x3/2": ("`lcn` has no option `/2`", "2", "it takes f=, eps="),
    "lcn 3x3 eps=0": ("`eps` must be a positive number, not `0`", "0", ""),
    "lrn n=0": ("`n` must be at least 1, not 0", "0", ""),
    "lrn n=2.5": ("`n` must be a whole number", "n=2.5", ""),
    "lrn alpha=-1": ("`alpha` must be zero or a positive number, not `-1`", "-1", ""),
    "lrn k=0": ("`k` must be a positive number, not `0`", "0", ""),
    "lrn k=[1 2]": ("`k` must be a number", "k=[1 2]", ""),
    "LRN: n=0\nlrn": ("`n` must be at least 1, not 0", "0", ""),
    "SEPCONV: m=0\nsepconv 3 3x3": ("`m` must be at least 1, not 0", "0", ""),
    "FC: elu(-1)\nfc 3": ("`elu`'s number must be zero or a positive number, not `-1`", "-1", ""),
    "DWCONV: groups=2\ndwconv 3x3": (
        "`DWCONV:` has no option `groups`",
        "groups=2",
        "it takes f=, s=, same, same=tf, valid, causal, pad=, dilation=, m=, bias, nobias, bn, nobn, "
        "an activation, linear",
    ),
    # channels and pixels
    "maxout 3": ("3 pieces must divide 4 channels", "3", OWN),
    "maxout 0": ("a number of pieces must be at least 1, not 0", "0", ""),
    "shuffle 3": ("3 groups must divide 4 channels", "3", OWN),
    "upsample 0": ("a factor must be at least 1, not 0", "0", ""),
    "upsample 2 cubic": ("`upsample` has no option `cubic`", "cubic", "it takes nearest, bilinear"),
    "upsample 2 nearest bilinear": ("`bilinear` contradicts `nearest`", "bilinear", ""),
    "zeropad -1": ("a border must be at least 0, not -1", "-1", ""),
    "zeropad (1,2,3)": (
        "a border with 3 numbers",
        "(1,2,3)",
        "write one number, (height,width) or (top,bottom,left,right)",
    ),
    "crop 9x3": ("a crop of 9x3 is larger than its input 8x8", "9x3", OWN),
    "crop 4x4x4": ("a crop has a height and a width", "4x4x4", "for example `crop 24x24`"),
    "crop 4x4 offset=5": ("a crop of 4x4 at (5,5) does not lie in its input 8x8", "offset=5", OWN),
    "crop 4x4 offset=-1": ("an offset must be at least 0, not -1", "-1", ""),
    "crop 4x4 offset=(1,2,3)": ("an offset with 3 numbers", "offset=(1,2,3)", "write one number or (y,x)"),
    "a: fc 3\nfrom input\ncrop like a": ("`a` gives 3, which has no height and width", "a", ""),
    "scale 1e999": ("a factor must be a finite number, not `1e999`", "1e999", ""),
    "dropout 1": ("a dropout rate of 1 leaves nothing", "1", ""),
}

VECTOR_ERRORS = {
    "conv 3 3x3": "conv",
    "deconv 2 4x4/2": "deconv",
    "dwconv 3x3": "dwconv",
    "sepconv 2 3x3": "dwconv",
    "maxpool 2x2": "maxpool",
    "l2pool 2x2": "l2pool",
    "subsample 2x2": "sumpool",
    "lcn 3x3": "lcn",
    "globalavgpool": "globalavgpool",
    "crop 3x3": "crop",
    "upsample 2": "upsample",
    "zeropad 1": "zeropad",
    "flatten": "flatten",
}


@pytest.mark.parametrize("body", ERRORS)
def test_wrong_layers(body: str) -> None:
    assert error_of(body, IMAGE) == ERRORS[body]


@pytest.mark.parametrize("body", VECTOR_ERRORS)
def test_layers_of_images_refuse_vectors(body: str) -> None:
    message, where, hint = error_of(body, VECTOR)
    assert (message, hint) == (f"{VECTOR_ERRORS[body]} needs an image HxWxC, not {VECTOR}", OWN)
    assert where in body
