"""Rose, and the rules of `rose_core.peers`, for CuPy training loops."""

from rose_arrays import diagnose
from rose_cupy.optimizer import Rose
from rose_cupy.rules import Optimizer

__all__ = ["Optimizer", "Rose", "diagnose"]
