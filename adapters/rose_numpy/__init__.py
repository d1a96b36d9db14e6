"""Rose for NumPy training loops."""

from rose_arrays import diagnose, load, save
from rose_numpy.optimizer import Rose

__all__ = ["Rose", "diagnose", "load", "save"]
