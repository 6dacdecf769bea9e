"""Plan to one readable Python module of Triton kernels and its launch table."""
