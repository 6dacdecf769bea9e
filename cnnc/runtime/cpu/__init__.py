"""The CPU runtime: the steps of a Plan in numpy, products in BLAS, float32 or float64."""

from cnnc.runtime.cpu.executor import CpuExecutor
from cnnc.runtime.cpu.table import BIND

__all__ = ["BIND", "CpuExecutor"]
