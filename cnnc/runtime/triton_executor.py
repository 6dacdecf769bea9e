"""Generates a plan's kernels and runs them on Triton."""

from __future__ import annotations

from cnnc.codegen import generate
from cnnc.ir.plan import Plan
from cnnc.runtime.triton_launcher import TritonExecutor


def triton_executor(plan: Plan, device: str) -> TritonExecutor:
    """What runs a plan on ``interpret`` or ``cuda``.

    Raises:
        UsageError: Triton is not installed.
    """
    return TritonExecutor(plan, generate(plan), device)
