"""The training-loop optimizers that `rose_numpy` and `rose_cupy` share; they hold no formula."""

from rose_arrays.diagnosis import diagnose
from rose_arrays.optimizer import ArrayOptimizer
from rose_arrays.rules import RuleOptimizer

__all__ = ["ArrayOptimizer", "RuleOptimizer", "diagnose"]
