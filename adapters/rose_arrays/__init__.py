"""The training-loop optimizer that `rose_numpy` and `rose_cupy` share; it holds no formula of Rose."""

from rose_arrays.checkpoint import load, save
from rose_arrays.diagnosis import diagnose
from rose_arrays.optimizer import ArrayOptimizer

__all__ = ["ArrayOptimizer", "diagnose", "load", "save"]
