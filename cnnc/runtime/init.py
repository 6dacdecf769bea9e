"""Initial values of parameters, reproducible from a seed."""

from __future__ import annotations

import math
from collections.abc import Iterator

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
    if spec.init.kind == "zeros":
        return np.zeros(spec.torch_shape)
    if spec.init.kind == "ones":
        return np.ones(spec.torch_shape)
    bound = 1 / math.sqrt(max(1, spec.init.fan_in))
    return rng.uniform(-bound, bound, spec.torch_shape)
