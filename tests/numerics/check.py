"""One comparison for all ops: the oracle and the cpu runtime against an expected result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnc.ir import ops
from cnnc.ir.types import Element, TensorType
from cnnc.runtime.arrays import Array
from cnnc.runtime.oracle import evaluate_op
from cnnc.runtime.scalars import Scalars
from tests.numerics.one_step import Setup, relative, run_on_cpu

DOUBLE = 1e-12  # relative L2 in float64
SINGLE = 1e-6  # relative L2 in float32

# Without borders; with borders wider than any padding of the tests, and uneven ones; and the GPU's axis order.
SETUPS = (
    Setup("float64"),
    Setup("float64", (4, 3, 3, 4), (1, 2, 0, 3)),
    Setup("float64", (1, 0, 1, 0), (0, 0, 1, 1), "HWNC"),
)


def check(
    op: ops.Op,
    types: Sequence[TensorType],
    arrays: Sequence[Array],
    expected: Sequence[Array],
    scalars: Scalars,
    *,
    single: float = SINGLE,
) -> None:
    """All outputs of an op: oracle and cpu in float64, cpu in float32."""
    for actual, want in zip(evaluate_op(op, arrays, scalars), expected, strict=True):
        assert relative(actual, want) <= DOUBLE, "oracle"
    check_cpu(op, types, arrays, expected, scalars, single=single)


def check_cpu(
    op: ops.Op,
    types: Sequence[TensorType],
    arrays: Sequence[Array],
    expected: Sequence[Array],
    scalars: Scalars,
    *,
    single: float = SINGLE,
) -> None:
    """All outputs of an op on the cpu runtime, in every setup and in float32."""
    for setup in SETUPS:
        for actual, want in zip(run_on_cpu(op, types, arrays, scalars, setup), expected, strict=True):
            assert actual is not None
            assert relative(actual, want) <= DOUBLE, setup
    halves = Setup("float32", SETUPS[1].input_halo, SETUPS[1].output_halo)
    for actual, want in zip(run_on_cpu(op, types, arrays, scalars, halves), expected, strict=True):
        assert actual is not None
        assert relative(actual, want) <= single, "float32"


def check_same(op: ops.Op, types: Sequence[TensorType], arrays: Sequence[Array], scalars: Scalars) -> None:
    """The cpu runtime against the oracle, where nothing else computes the op."""
    check_cpu(op, types, arrays, evaluate_op(op, arrays, scalars), scalars)


def drawn(seed: int, kind: TensorType, n: int) -> Array:
    """Seeded normal numbers of a type, exactly representable in float32."""
    assert kind.element in (Element.REAL, Element.ACC)
    shape = (n, *kind.shape) if kind.batched else kind.shape
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32).astype(np.float64)
