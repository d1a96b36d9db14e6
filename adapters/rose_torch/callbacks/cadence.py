"""Every how many steps something happens."""

from rose_core.hyperparameters import unsigned

__all__ = ["checked_cadence"]


def checked_cadence(every_n_steps: int) -> int:
    """Return a number of steps, at least 1, or raise an error that names the argument."""
    if unsigned("every_n_steps", every_n_steps, bits=63) < 1:
        raise ValueError(f"every_n_steps must be at least 1, got {every_n_steps!r}")
    return every_n_steps
