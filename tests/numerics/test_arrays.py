"""Arrays of users in and out, and parameters between layouts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cnnc.errors import UsageError
from cnnc.ir.params import Init, ParamSpec, conv_spec, linear_spec, vector_spec
from cnnc.ir.plan import Buffer, Space
from cnnc.ir.size import Size
from cnnc.runtime.arrays import to_numpy, to_stored, to_torch
from cnnc.runtime.memory import allocate, view

FLATTENED = ParamSpec("fc.weight", (4, 30), (4, 5, 2, 3), (0, 2, 3, 1), Init("zeros"))
POINTWISE = ParamSpec("c.weight", (4, 5, 1, 1), (4, 5, 1, 1), (0, 2, 3, 1), Init("zeros"), squeeze=(4, 5))
SPECS = [
    conv_spec("conv.weight", 4, (2, 3), 5),
    linear_spec("fc.weight", 4, 7),
    vector_spec("bias", 6, Init("zeros")),
    FLATTENED,
    POINTWISE,
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: str(spec.torch_shape))
def test_layouts_are_inverses(spec: ParamSpec) -> None:
    array = np.arange(spec.count, dtype=np.float64).reshape(spec.torch_shape)
    stored = to_stored(spec, array)
    assert stored.shape == spec.shape
    assert stored.flags.c_contiguous
    np.testing.assert_array_equal(to_torch(spec, stored), array)


def test_conv_is_stored_krsc() -> None:
    array = np.random.default_rng(1).standard_normal((4, 5, 2, 3))
    np.testing.assert_array_equal(to_stored(SPECS[0], array), array.transpose(0, 2, 3, 1))


def test_linear_after_flatten() -> None:
    """Its columns are in CHW order outside and HWC inside, so that it reads an NHWC image as it lies."""
    x, w = np.random.default_rng(1).standard_normal((2, 3, 5)), np.random.default_rng(2).standard_normal((4, 30))
    inside = to_stored(FLATTENED, w).reshape(4, -1) @ x.ravel()
    np.testing.assert_allclose(inside, w @ x.transpose(2, 0, 1).ravel(), rtol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "uint8", ">f4"])
def test_numpy_comes_back_as_numpy(dtype: str) -> None:
    x = np.arange(6, dtype=dtype).reshape(2, 3)
    array, restore = to_numpy(x, "input")
    np.testing.assert_array_equal(array, x)
    assert array.dtype.isnative
    assert type(restore(array)) is np.ndarray


@pytest.mark.parametrize("x", [[[1, 2], [3, 4]], ((1.5,), (2.5,)), 3, np.float32(2)])
def test_numbers_come_back_as_numpy(x: Any) -> None:
    array, restore = to_numpy(x, "input")
    np.testing.assert_array_equal(array, np.asarray(x))
    assert type(restore(array)) is np.ndarray


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64])
def test_torch_comes_back_as_torch(dtype: torch.dtype) -> None:
    x = torch.arange(6).reshape(2, 3).to(dtype)
    array, restore = to_numpy(x, "input")
    np.testing.assert_array_equal(array.astype(np.float64), np.arange(6.0).reshape(2, 3))
    back = restore(array)
    assert isinstance(back, torch.Tensor)
    assert back.device == x.device
    assert back.dtype == dtype


def test_torch_with_gradient_and_views() -> None:
    x = torch.arange(6.0, requires_grad=True).reshape(2, 3).T
    array, restore = to_numpy(x, "input")
    np.testing.assert_array_equal(array, np.arange(6.0).reshape(2, 3).T)
    assert restore(np.broadcast_to(np.float32(1), (2, 2))).shape == (2, 2)


class OtherLibrary:
    """An array of a library that has DLPack and the array API's namespace."""

    def __init__(self, array: Any) -> None:
        self.array = np.asarray(array)

    def __dlpack__(self, **arguments: Any) -> Any:
        return self.array.__dlpack__(**arguments)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()

    def __array_namespace__(self) -> Any:
        return OtherLibrary

    @staticmethod
    def from_dlpack(x: Any) -> OtherLibrary:
        return OtherLibrary(np.from_dlpack(x))


class OnlyDlpack(OtherLibrary):
    __array_namespace__ = property()  # type: ignore[assignment]


class FarAway(OtherLibrary):
    def __dlpack__(self, **arguments: Any) -> Any:
        raise BufferError("not in host memory")


def test_dlpack_comes_back_through_its_own_library() -> None:
    x = OtherLibrary(np.arange(4.0))
    array, restore = to_numpy(x, "input")
    np.testing.assert_array_equal(array, x.array)
    back = restore(np.broadcast_to(2.0, (3,)))
    assert isinstance(back, OtherLibrary)
    np.testing.assert_array_equal(back.array, [2, 2, 2])


def test_dlpack_of_no_known_library() -> None:
    array, restore = to_numpy(OnlyDlpack(np.arange(4.0)), "input")
    assert type(restore(array)) is np.ndarray


@pytest.mark.parametrize(
    ("x", "sentence"),
    [
        (np.array(["a"]), "input holds str32 values; real numbers are needed"),
        (np.array([None]), "input holds objects; real numbers are needed"),
        (np.array([1j]), "input holds complex128 values; real numbers are needed"),
        ([[1], [1, 2]], "input is a list that is no array of numbers"),
        (torch.zeros(2).to_sparse(), "input is a sparse or quantised tensor; a dense one is needed"),
        (torch.zeros(2, dtype=torch.complex64), "input holds complex64 values; real numbers are needed"),
        (FarAway([1.0]), "input is a FarAway that numpy can't read; copy it to the host"),
        (object(), "input holds objects; real numbers are needed"),
    ],
)
def test_what_is_no_array_of_numbers(x: Any, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        to_numpy(x, "input")
    assert str(caught.value) == sentence


@pytest.mark.parametrize(("offset", "n"), [(128, 1), (0, 2), (1 << 62, 1)])
def test_views_stay_inside_their_block(offset: int, n: int) -> None:
    buffer = Buffer(0, "x", Space.WORK, "float32", (4, 4, 2), True, "NHWC", Size(c=offset), Size(a=128))
    with pytest.raises((ValueError, OverflowError)):
        view(buffer, {Space.WORK: allocate(128)}, n)
