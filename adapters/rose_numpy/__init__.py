"""Rose, and the rules of `rose_core.peers`, for NumPy training loops."""

from rose_arrays import diagnose
from rose_numpy.optimizer import Rose
from rose_numpy.rules import Optimizer

__all__ = ["Optimizer", "Rose", "diagnose"]
