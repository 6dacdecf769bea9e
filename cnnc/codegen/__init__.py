"""Plan -> readable Triton kernels and the table of their launches."""

from cnnc.codegen.generate import generate

__all__ = ["generate"]
