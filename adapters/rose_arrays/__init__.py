"""The training-loop optimizer that `rose_numpy` and `rose_cupy` share; it holds no formula of Rose."""

from rose_arrays.diagnosis import diagnose
from rose_arrays.optimizer import ArrayOptimizer
from rose_arrays.steps import Addresses, Updates

__all__ = ["Addresses", "ArrayOptimizer", "Updates", "diagnose"]
