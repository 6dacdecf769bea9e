"""Arrays of users: numpy, torch or DLPack in, the same kind out; parameters between PyTorch's layout and ours."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnc.errors import UsageError
from cnnc.ir.params import ParamSpec

Array = npt.NDArray[Any]
Restore = Callable[[Array], Any]


def to_stored(spec: ParamSpec, array: Array) -> Array:
    """A parameter as kernels store it, from the shape PyTorch gives it."""
    return np.ascontiguousarray(array.reshape(spec.view).transpose(spec.perm)).reshape(spec.shape)


def to_torch(spec: ParamSpec, stored: Array) -> Array:
    """A stored parameter in the shape and order of PyTorch's ``state_dict``: the inverse of ``to_stored``."""
    permuted = stored.reshape([spec.view[axis] for axis in spec.perm])
    return np.ascontiguousarray(permuted.transpose(np.argsort(spec.perm))).reshape(spec.torch_shape)


def bfloat16_bits(array: Array) -> npt.NDArray[np.uint16]:
    """float32 rounded to bfloat16 (to nearest, ties to even), as 16 bits; NaN stays NaN."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    # Adding 0x7fff, and one more where the kept part is odd, carries exactly when rounding goes up.
    rounded = (bits + (((bits >> np.uint32(16)) & np.uint32(1)) + np.uint32(0x7FFF))) >> np.uint32(16)
    quiet = (bits >> np.uint32(16)) | np.uint32(0x40)
    nan = bits & np.uint32(0x7FFFFFFF) > np.uint32(0x7F800000)
    result: npt.NDArray[np.uint16] = np.where(nan, quiet, rounded).astype(np.uint16)
    return result


def bfloat16_values(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """The float32 numbers that bfloat16 bits stand for, exactly."""
    result: npt.NDArray[np.float32] = (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return result


def to_numpy(x: Any, what: str) -> tuple[Array, Restore]:
    """A user's array in numpy, and a function that turns a result into the same kind.

    Takes numpy, torch tensors (any device), objects with DLPack or ``__array__``, and lists of numbers;
    ``what`` names it in errors. bfloat16 comes as float32.

    Raises:
        UsageError: it is not an array of real numbers.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        return _from_torch(x, what)
    if isinstance(x, (np.ndarray, np.generic)):
        return _real(np.asarray(x), what), _same
    if hasattr(x, "__dlpack__"):
        return _from_dlpack(x, what)
    return _real(_as_array(x, what), what), _same


def _same(array: Array) -> Array:
    return array


def _from_torch(x: Any, what: str) -> tuple[Array, Restore]:
    torch = sys.modules["torch"]
    if x.layout != torch.strided or x.is_quantized:
        raise UsageError(f"{what} is a sparse or quantised tensor; a dense one is needed")
    half = x.dtype == torch.bfloat16
    host = x.detach().resolve_neg().cpu()
    array = (host.float() if half else host.resolve_conj()).numpy()

    def restore(result: Array) -> Any:
        tensor = torch.from_numpy(np.require(result, requirements=["C", "W"])).to(x.device)
        return tensor.bfloat16() if half and tensor.dtype == torch.float32 else tensor

    return _real(array, what), restore


def _from_dlpack(x: Any, what: str) -> tuple[Array, Restore]:
    try:
        array = np.from_dlpack(x)
    except (BufferError, RuntimeError, TypeError, ValueError):
        # Not in the host's memory, or a dtype that DLPack or numpy lacks; its own conversion may copy.
        if not hasattr(x, "__array__"):
            raise UsageError(f"{what} is a {type(x).__name__} that numpy can't read; copy it to the host") from None
        array = _as_array(x, what)
    reader = _dlpack_reader(x)
    if reader is None:
        return _real(array, what), _same
    # A copy, since some readers refuse read-only or unaligned memory.
    return _real(array, what), lambda result: reader(np.array(result, order="C"))


def _dlpack_reader(x: Any) -> Callable[[Any], Any] | None:
    """``from_dlpack`` of the library that an object comes from."""
    namespaces = [sys.modules.get(type(x).__module__.partition(".")[0])]
    if hasattr(x, "__array_namespace__"):
        namespaces.insert(0, x.__array_namespace__())
    for namespace in namespaces:
        reader = getattr(namespace, "from_dlpack", None)
        if callable(reader):
            return reader  # type: ignore[no-any-return]
    return None


def _as_array(x: Any, what: str) -> Array:
    try:
        return np.asarray(x)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise UsageError(f"{what} is a {type(x).__name__} that is no array of numbers") from error


def _real(array: Array, what: str) -> Array:
    """The array in native byte order, if it holds real numbers."""
    if array.dtype.name == "bfloat16":  # numpy's extension type
        return array.astype(np.float32)
    if array.dtype.kind not in "fiub":
        kind = "objects" if array.dtype.kind == "O" else f"{array.dtype.name} values"
        raise UsageError(f"{what} holds {kind}; real numbers are needed")
    return array.astype(array.dtype.newbyteorder("="), copy=False)
