"""Compiled kernels for arrays on the CPU, with the bits of `rose_core`; `rose_numpy` and `rose_torch` call them.

Importing the package loads no compiler; the first step does.
"""

from rose_kernels.availability import resolve_fused
from rose_kernels.kernels import Kernels, Requests
from rose_kernels.layout import Kernel, Kind, Layout, layout_of
from rose_kernels.parallel.threads import Threads, get_num_threads, run_in_threads, set_num_threads

__all__ = [
    "Kernel",
    "Kernels",
    "Kind",
    "Layout",
    "Requests",
    "Threads",
    "get_num_threads",
    "layout_of",
    "resolve_fused",
    "run_in_threads",
    "set_num_threads",
]
