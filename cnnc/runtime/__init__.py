"""Runs a Plan: numpy, Triton's interpreter, or a GPU."""
