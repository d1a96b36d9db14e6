"""The training-loop optimizer that `rose_numpy` and `rose_cupy` share; it holds no formula of Rose."""

from rose_arrays.diagnosis import diagnose
from rose_arrays.optimizer import ArrayOptimizer
from rose_arrays.steps import Update, run_by_core

__all__ = ["ArrayOptimizer", "Update", "diagnose", "run_by_core"]
