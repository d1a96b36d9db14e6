"""Rose for NumPy training loops."""

from rose_numpy.optimizer import Rose

__all__ = ["Rose"]
