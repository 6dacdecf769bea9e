"""No op is missing from the tables of the oracle and the cpu runtime."""

from __future__ import annotations

from cnnc.ir import ops
from cnnc.runtime.cpu.table import BIND, IN_PLACE
from cnnc.runtime.oracle import EVALUATE


def test_the_oracle_knows_every_op() -> None:
    assert set(EVALUATE) == {*ops.ALL_OPS, *ops.ARENA_OPS}


def test_the_cpu_runs_every_op_that_a_plan_may_hold() -> None:
    assert set(BIND) == {*ops.ALL_OPS, *ops.ARENA_OPS} - set(ops.COMPOSITE_OPS)
    assert set(IN_PLACE) <= set(BIND)
