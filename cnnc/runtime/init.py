"""Initial values of parameters, reproducible from a seed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import reduce

import numpy as np

from cnnc.errors import UsageError
from cnnc.ir.params import ParamSpec
from cnnc.runtime.arrays import Array

SEED_LIMIT = 2**63


def check_seed(seed: int) -> int:
    """The seed itself, if it can be one: 0 <= seed < 2**63."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < SEED_LIMIT:
        raise UsageError(f"seed must be an integer from 0 to 2**63 - 1, not {seed!r}")
    return int(seed)


def initial_values(specs: tuple[ParamSpec, ...], seed: int) -> Iterator[tuple[ParamSpec, Array]]:
    """One float64 array per parameter, in PyTorch's layout, one at a time.

    Each parameter draws from its own stream (seed, position), so that adding a layer at the end
    leaves the ones before it as they were.
    """
    for index, spec in enumerate(specs):
        yield spec, _draw(spec, np.random.default_rng([seed, index]))


def _draw(spec: ParamSpec, rng: np.random.Generator) -> Array:
    """The kinds of ``ir.params.Init``."""
    init, shape = spec.init, spec.torch_shape
    if init.kind in ("zeros", "ones"):
        return np.full(shape, 0.0 if init.kind == "zeros" else 1.0)
    if init.kind == "constant":
        return np.full(shape, init.values[0])
    if init.kind == "values":
        return np.array(init.values).reshape(shape)
    if init.kind == "bilinear":
        return _bilinear(shape)
    if init.kind == "gaussian":
        window = _product([_bell(k, init.values[0]) for k in shape[2:]])
        return np.broadcast_to(window / (window.sum() * shape[1]), shape).copy()
    if init.kind != "uniform":
        raise ValueError(f"{spec.name}: no initial values of kind {init.kind}")
    bound = 1 / math.sqrt(max(1, init.fan_in))
    return rng.uniform(-bound, bound, shape)


def _bilinear(shape: tuple[int, ...]) -> Array:
    """Up-sampling kernels that take each channel to itself (Long et al. 2015); all of them where there is one a group.

    Along an axis of k taps ``f(i) = 1 - |i/s - c|`` with s = ceil(k/2) and c = (2s - 1 - k mod 2) / 2s, the middle.
    """
    kernel = _product([_tent(k) for k in shape[2:]])
    result = np.zeros(shape)
    if shape[1] == 1:
        result[:, 0] = kernel
    else:
        diagonal = np.arange(min(shape[:2]))
        result[diagonal, diagonal] = kernel
    return result


def _tent(k: int) -> Array:
    s = (k + 1) // 2
    centre = (2 * s - 1 - k % 2) / (2 * s)
    result: Array = 1 - np.abs(np.arange(k) / s - centre)
    return result


def _bell(k: int, deviation: float) -> Array:
    """A Gaussian over k pixels, 1 in the middle."""
    result: Array = np.exp(-((np.arange(k) - (k - 1) / 2) ** 2) / (2 * deviation**2))
    return result


def _product(axes: list[Array]) -> Array:
    """The separable window of these profiles."""
    return reduce(np.multiply.outer, axes)
