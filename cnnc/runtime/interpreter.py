"""Runs kernels in Triton's interpreter, on numpy memory, without a GPU or torch.

Triton chooses between interpreting and compiling when a kernel is decorated, its own library functions
(``tl.sum``, ``tl.philox``) included. Here kernels are decorated for compiling, as on a GPU, and their
plain Python functions are interpreted under patches that end with each run: both ways work in one process,
whatever was imported first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter as triton_interpreter
from triton.runtime.jit import JITFunction
from triton.tools.tensor_descriptor import TensorDescriptor

from cnnc.codegen.launch import POINTER_TYPES, Argument, Descriptor, argument_type
from cnnc.ir.plan import Buffer
from cnnc.runtime.arrays import bfloat16_bits, bfloat16_values

NUMBER_TYPES: dict[str, tuple[Any, Any]] = {
    "i32": (np.int32, tl.int32),
    "i64": (np.int64, tl.int64),
    "fp32": (np.float32, tl.float32),
}
POINTEES: dict[str, Any] = {
    "*fp64": tl.float64,
    "*fp32": tl.float32,
    "*bf16": tl.bfloat16,
    "*fp16": tl.float16,
    "*i32": tl.int32,
    "*u8": tl.uint8,
}

Handle = triton_interpreter.TensorHandle
Builder = triton_interpreter.InterpreterBuilder

_lock = threading.RLock()  # the patches are to modules, which all threads share
_rewritten: dict[Any, Callable[..., Any]] = {}


def tensor_of(argument: Argument, value: int | float, buffers: Mapping[int, Buffer]) -> Any:
    """A runtime argument as the interpreter holds it: an address, or a number of fixed width."""
    kind = argument_type(argument, buffers)
    if kind in POINTEES:
        pointer = tl.pointer_type(POINTEES[kind])
        return tl.tensor(Handle(np.array([value], np.uint64), pointer), pointer)
    return _number(value, kind)


def descriptor_of(descriptor: Descriptor, address: int, n: int, buffers: Mapping[int, Buffer]) -> Any:
    """A tensor descriptor over host memory. Only inside ``interpreting()``."""
    pointer = tl.pointer_type(POINTEES[POINTER_TYPES[buffers[descriptor.buffer].dtype]])
    strides = [_number(stride.at(n), "i64") for stride in descriptor.strides[:-1]]
    return triton_interpreter.interpreter_semantic.make_tensor_descriptor(
        base=tl.tensor(Handle(np.array([address], np.uint64), pointer), pointer),
        shape=[_number(extent.at(n), "i32") for extent in descriptor.shape],
        strides=[*strides, tl.constexpr(1)],
        block_shape=[tl.constexpr(extent) for extent in descriptor.block],
    )


def host_descriptor(descriptor: Descriptor, tensor: Any, n: int) -> Any:
    """What Triton's own launcher makes a tensor map of; ``tensor`` is torch's, at the buffer's first element."""
    shape = [extent.at(n) for extent in descriptor.shape]
    strides = [stride.at(n) for stride in descriptor.strides]
    return TensorDescriptor(tensor, shape, strides, list(descriptor.block))


def _number(value: int | float, kind: str) -> Any:
    dtype, triton_type = NUMBER_TYPES[kind]
    return tl.tensor(Handle(np.array([value], dtype), triton_type), triton_type)


def run(kernel: Any, arguments: Mapping[str, Any], constants: Mapping[str, Any], grid: Sequence[int]) -> None:
    """Run every program of a grid, one after the other. Only inside ``interpreting()``."""
    function = _rewrite(kernel.fn)
    axes = (*grid, 1, 1, 1)[:3]
    builder = triton_interpreter.interpreter_builder
    builder.set_grid_dim(*axes)
    for x, y, z in product(*(range(count) for count in axes)):
        builder.set_grid_idx(x, y, z)
        function(**arguments, **constants)


@contextmanager
def interpreting() -> Iterator[None]:
    """Turn ``triton.language`` into the interpreter's for a while."""
    with _lock:
        language = SimpleNamespace(__globals__={"tl": tl, "core": tl.core})
        scope = triton_interpreter._patch_lang(language)
        try:
            for kind in (JITFunction, triton_interpreter.InterpretedFunction):
                scope.set_attr(kind, "__call__", _call)
            scope.set_attr(tl.tensor, "__index__", _index)
            scope.set_attr(Builder, "create_dot", _dot)
            scope.set_attr(Builder, "cast_impl", _cast)
            scope.set_attr(Builder, "create_fp_to_fp", _convert)
            scope.set_attr(Builder, "create_splat", _splat)
            scope.set_attr(triton_interpreter.ReduceOps, "sum", _sum)
            with np.errstate(all="ignore"):
                yield
        finally:
            scope.restore()


def _rewrite(function: Any) -> Callable[..., Any]:
    """The function with its assignments wrapped as the interpreter needs them."""
    if function not in _rewritten:
        _rewritten[function] = triton_interpreter.FunctionRewriter(function).rewrite_ast()
    return _rewritten[function]


def _call(function: Any, *args: Any, **kwargs: Any) -> Any:
    """What calling a device function from an interpreted kernel does; outside of kernels it stays an error."""
    return _rewrite(function.fn)(*args, **kwargs)


def _index(tensor: Any) -> int:
    """A scalar as a loop bound; its array has one element and one axis, which numpy >= 2.4 no longer converts."""
    return int(tensor.handle.data.reshape(-1)[0])


def _splat(builder: Any, target: Any, scalar: Any) -> Any:
    """A scalar repeated. A truth value stays one: Triton makes it int32, which 3.9 refuses as a mask."""
    value = scalar.data.reshape(-1)[0]
    return Handle(np.full(target.shape, value, scalar.data.dtype), scalar.dtype.scalar)


def _sum(reduction: Any, values: Any) -> Any:
    """A sum along an axis. The interpreter adds floats one after the other, and errors pile up; a card's threads
    add them as a tree."""
    data = values.handle.data
    wide = np.float64 if data.dtype.kind == "f" else data.dtype
    total = np.sum(data, axis=reduction.axis, keepdims=reduction.keep_dims, dtype=wide)
    return reduction.to_tensor(np.asarray(total).astype(data.dtype), values.dtype)


def _floats(handle: Any) -> Any:
    """A matrix operand in float32; bfloat16 is held as its bits."""
    if handle.dtype.scalar == tl.bfloat16:
        return bfloat16_values(handle.data)
    return handle.data.astype(np.float32) if handle.dtype.scalar == tl.float16 else handle.data


def _dot(builder: Any, a: Any, b: Any, d: Any, *precision: Any) -> Any:
    """16-bit operands are multiplied in float32, as matrix units do; the interpreter would multiply their bits."""
    return Handle(np.matmul(_floats(a), _floats(b), dtype=d.data.dtype) + d.data, d.dtype.scalar)


def _cast(builder: Any, source: Any, target: Any) -> Any:
    """Conversion of elements; to bfloat16 by rounding to nearest even, where the interpreter truncates."""
    if target.scalar == tl.bfloat16 and source.dtype.scalar != tl.bfloat16:
        return Handle(bfloat16_bits(source.data.astype(np.float32)), tl.bfloat16)
    data = bfloat16_values(source.data) if source.dtype.scalar == tl.bfloat16 else source.data
    if target.scalar == tl.bfloat16:
        return source
    return Handle(data.astype(triton_interpreter._get_np_dtype(target)), target.scalar)


def _convert(builder: Any, source: Any, target: Any, rounding: Any) -> Any:
    return _cast(builder, source, target)
