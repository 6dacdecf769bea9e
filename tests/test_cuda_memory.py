"""The CUDA device's memory, on PyTorch's CPU tensors: layouts and dtypes as the host's memory has them."""

import numpy as np
import pytest

from cnnc.errors import UsageError
from cnnc.ir.plan import Buffer, Space
from cnnc.ir.size import Size
from cnnc.runtime.cuda import CudaMemory, cuda_available, cuda_target
from cnnc.runtime.device import HostDevice

N, SHAPE = 5, (3, 2, 7)


def buffer(dtype, axes, *, halo=(0, 0, 0, 0), channels=7):
    return Buffer(0, "x", Space.WORK, dtype, SHAPE, True, axes, Size(a=128, c=256), Size(), halo, channels)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int32", "uint8"])
@pytest.mark.parametrize("axes", ["NHWC", "HWNC"])
@pytest.mark.parametrize("extra", [{}, {"halo": (1, 0, 2, 1)}, {"channels": 8}])
def test_bytes_lie_where_the_host_puts_them(dtype, axes, extra):
    place = buffer(dtype, axes, **extra)
    array = np.random.default_rng(0).uniform(0, 200, (N, *SHAPE)).astype(np.float32)
    array = np.floor(array) if dtype in ("int32", "uint8") else array
    host, memory = HostDevice("cpu"), CudaMemory("cpu")
    nbytes = place.offset.at(N) + place.elements.at(N) * place.item_bytes + 64
    blocks, block = {Space.WORK: host.allocate(nbytes)}, memory.allocate(nbytes)
    host.write(place, blocks, N, array)
    memory.write(block, place, N, array)
    np.testing.assert_array_equal(block.numpy(), blocks[Space.WORK])
    np.testing.assert_array_equal(memory.read(block, place, N), host.read(place, blocks, N))


def test_without_a_card_the_sentence_says_what_to_use():
    if not cuda_available():
        with pytest.raises(UsageError, match="finds no CUDA card; use device cpu or interpret"):
            cuda_target()
    else:
        assert cuda_target().startswith("sm_")
