"""Memory on a CUDA card through PyTorch's allocator. The runtime's one module that imports torch.

It has been run against torch's CPU tensors in the tests, and never on a card so far.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from cnnc.errors import CnnError, UsageError
from cnnc.ir.plan import Buffer


def _torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise UsageError("device cuda needs PyTorch: pip install 'cnnc[torch]'") from error


def cuda_available() -> bool:
    """Whether there is PyTorch and a card; without PyTorch there is none to use."""
    try:
        return bool(_torch().cuda.is_available())
    except UsageError:
        return False


def cuda_target() -> str:
    """The architecture of the current card, such as ``sm_90``.

    Raises:
        UsageError: no PyTorch, or no card.
    """
    torch = _torch()
    if not torch.cuda.is_available():
        raise UsageError("device cuda: PyTorch finds no CUDA card; use device cpu or interpret")
    major, minor = torch.cuda.get_device_capability()
    return f"sm_{major}{minor}"


class CudaMemory:
    """Blocks of bytes as torch tensors on one torch device."""

    def __init__(self, device: str = "cuda") -> None:
        self._device = device
        self._torch = _torch()

    def allocate(self, nbytes: int) -> Any:
        """Zeroed bytes; their address is a multiple of 256, as PyTorch allocates.

        Raises:
            MemoryError: the card has not that much left.
        """
        try:
            return self._torch.zeros(nbytes, dtype=self._torch.uint8, device=self._device)
        except self._torch.OutOfMemoryError as error:
            raise MemoryError(f"{nbytes:,} bytes on {self._device}") from error

    def write(self, block: Any, buffer: Buffer, n: int, array: np.ndarray[Any, Any]) -> None:
        """Copy an array in logical axis order into a buffer, converted to its dtype on the card."""
        source = self._torch.from_numpy(np.ascontiguousarray(array))
        self._view(block, buffer, n).copy_(source)

    def read(self, block: Any, buffer: Buffer, n: int) -> np.ndarray[Any, Any]:
        """A copy of a buffer on the host in logical axis order; 16-bit floats as float32."""
        tensor = self._view(block, buffer, n)
        if tensor.dtype in (self._torch.bfloat16, self._torch.float16):
            tensor = tensor.float()
        result: np.ndarray[Any, Any] = tensor.cpu().contiguous().numpy()
        return result.copy()

    def _view(self, block: Any, buffer: Buffer, n: int) -> Any:
        start = buffer.offset.at(n)
        dtype = getattr(self._torch, buffer.dtype)
        typed = block[start : start + len(block[start:]) // buffer.item_bytes * buffer.item_bytes].view(dtype)
        shape = (n, *buffer.shape) if buffer.batched else buffer.shape
        strides = [stride.at(n) for stride in buffer.strides]
        offset = typed.storage_offset() + buffer.origin.at(n)
        if not typed.numel():
            raise CnnError(f"buffer {buffer.name} lies outside its block")
        return self._torch.as_strided(typed, shape, strides, offset)
