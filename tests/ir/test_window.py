"""Output sizes and padding against torch and against the rules as written."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from cnnc.errors import ShapeError
from cnnc.ir.window import Window, same_padding, tensorflow_same_padding

SMALL = st.integers(1, 5)


@given(st.integers(1, 20), SMALL, SMALL, SMALL, st.integers(0, 4))
def test_conv_output_is_torchs(image, kernel, stride, dilation, pad):
    window = Window((kernel, kernel), (stride, stride), (pad, pad, pad, pad), (dilation, dilation))
    if image + 2 * pad < window.extent[0]:
        with pytest.raises(ShapeError, match="does not fit"):
            window.output((image, image))
        return
    x, w = torch.zeros(1, 1, image, image), torch.zeros(1, 1, kernel, kernel)
    want = torch.nn.functional.conv2d(x, w, stride=stride, padding=pad, dilation=dilation).shape[2:]
    assert window.output((image, image)) == tuple(want)


@given(st.integers(1, 20), SMALL, SMALL, st.integers(0, 2), st.booleans())
def test_pool_output_is_torchs(image, kernel, stride, pad, ceil):
    assume(pad <= kernel // 2 and image + 2 * pad >= kernel)
    window = Window((kernel, kernel), (stride, stride), (pad, pad, pad, pad), ceil=ceil)
    x = torch.zeros(1, 1, image, image)
    want = torch.nn.functional.max_pool2d(x, kernel, stride, pad, ceil_mode=ceil).shape[2:]
    assert window.output((image, image)) == tuple(want)


def test_asymmetric_padding_and_rectangles():
    assert Window((3, 2), (2, 1), (1, 0, 0, 2)).output((6, 5)) == (3, 6)


def test_same_puts_the_extra_pixel_after():
    assert same_padding((3, 4), (1, 1)) == (1, 1, 1, 2)
    assert same_padding((3, 3), (2, 1)) == (2, 2, 1, 1)
    assert Window((4, 4), pad=same_padding((4, 4), (1, 1))).output((7, 9)) == (7, 9)


@pytest.mark.parametrize(
    ("image", "kernel", "stride", "pad"),
    [(224, 7, 2, (2, 3)), (224, 11, 4, (3, 4)), (5, 1, 3, (0, 0)), (6, 3, 3, (0, 0)), (7, 3, 2, (1, 1))],
)
def test_tensorflow_same(image, kernel, stride, pad):
    pads = tensorflow_same_padding((image, image), (kernel, kernel), (stride, stride), (1, 1))
    assert pads == (*pad, *pad)
    assert Window((kernel, kernel), (stride, stride), pads).output((image, image))[0] == -(-image // stride)
