"""Rose for CuPy training loops."""

from rose_arrays import diagnose, load, save
from rose_cupy.optimizer import Rose

__all__ = ["Rose", "diagnose", "load", "save"]
