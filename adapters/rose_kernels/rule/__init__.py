"""The formulas of Rose in compiled code, held to the bits of `rose_core` by `tests/kernels`."""
