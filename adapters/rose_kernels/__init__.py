"""Compiled kernels that update arrays on the CPU, to the bits of `rose_core`.

This module is the front door: the optimizers import from here only. Importing it loads no compiler.
`README.md` explains how the kernels work.

- `kernels` takes launches, `layout` describes parameters, and `entry` compiles.
- `availability` says whether there are kernels, and `readiness` whether they are compiled.
- `rule/` has the formulas of Rose in compiled code.
- `parallel/` divides a step into tasks and runs them in threads.
- `llvm/` has everything that enters Numba's internals or llvmlite.

Kernels for GPUs will come beside them, in a folder `cuda/`.
"""

from rose_kernels.availability import resolve_fused
from rose_kernels.kernels import Kernels, Launch
from rose_kernels.layout import Kernel, Kind, Layout, layout_of
from rose_kernels.parallel.threads import Threads, get_num_threads, run_in_threads, set_num_threads

__all__ = [
    "Kernel",
    "Kernels",
    "Kind",
    "Launch",
    "Layout",
    "Threads",
    "get_num_threads",
    "layout_of",
    "resolve_fused",
    "run_in_threads",
    "set_num_threads",
]
