"""Initial values by kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cnnc.ir.params import Init, ParamSpec
from cnnc.runtime.arrays import Array
from cnnc.runtime.init import initial_values


def drawn(shape: tuple[int, ...], kind: str, *values: float) -> Array:
    spec = ParamSpec("w", shape, shape, tuple(range(len(shape))), Init(kind, values=values))
    ((_, value),) = initial_values((spec,), 0)
    return value


def test_constants_and_written_values() -> None:
    np.testing.assert_array_equal(drawn((2, 3), "zeros"), np.zeros((2, 3)))
    np.testing.assert_array_equal(drawn((2, 3), "ones"), np.ones((2, 3)))
    np.testing.assert_array_equal(drawn((2, 3), "constant", -0.25), np.full((2, 3), -0.25))
    np.testing.assert_array_equal(drawn((2, 3), "values", *range(6)), np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize(("kernel", "factor"), [(4, 2), (16, 8), (64, 32), (3, 2), (5, 3), (1, 1)])
def test_bilinear_kernels_interpolate_between_pixels(kernel: int, factor: int) -> None:
    """A transposed conv of stride s with them enlarges as torch does, away from the border; channels stay apart."""
    weight = drawn((3, 3, kernel, kernel), "bilinear")
    off_diagonal = weight[~np.eye(3, dtype=bool)]
    assert not off_diagonal.any()
    x = torch.randn(1, 3, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.nn.functional.conv_transpose2d(x, torch.tensor(weight), stride=factor)
    if kernel % 2:
        want = torch.nn.functional.interpolate(x, size=4 * factor + 1, mode="bilinear", align_corners=True)
        before = (kernel - 1) // 2
        got = y[:, :, before : before + 4 * factor + 1, before : before + 4 * factor + 1]
    else:
        want = torch.nn.functional.interpolate(x, scale_factor=factor, mode="bilinear")[
            :, :, factor:-factor, factor:-factor
        ]
        before = factor // 2 + factor
        got = y[:, :, before : before + 3 * factor, before : before + 3 * factor]
    np.testing.assert_allclose(got.numpy(), want.numpy(), atol=1e-12)


def test_bilinear_kernels_of_one_group_per_channel() -> None:
    grouped = drawn((5, 1, 4, 4), "bilinear")
    np.testing.assert_array_equal(grouped[3, 0], drawn((5, 5, 4, 4), "bilinear")[2, 2])
    np.testing.assert_allclose(drawn((2, 2, 4), "bilinear")[1, 1], [0.25, 0.75, 0.75, 0.25])


def test_gaussian_windows_are_weights() -> None:
    weight = drawn((2, 3, 5, 5), "gaussian", 1.5)
    np.testing.assert_allclose(weight.sum((1, 2, 3)), 1.0, rtol=1e-12)
    np.testing.assert_allclose(weight[0, 0, 2, 3] / weight[0, 0, 2, 2], np.exp(-1 / (2 * 1.5**2)), rtol=1e-12)
    np.testing.assert_array_equal(weight, weight[:, :, ::-1, ::-1].transpose(0, 1, 3, 2))
    assert (weight[1, 2] == weight[0, 0]).all()


def test_an_unknown_kind_is_a_bug() -> None:
    with pytest.raises(ValueError, match="no initial values of kind normal"):
        drawn((1,), "normal")
