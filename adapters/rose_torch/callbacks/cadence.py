"""The number of steps from one diagnosis to the next."""

__all__ = ["checked_cadence"]


def checked_cadence(every_n_steps: int) -> int:
    """Return a number of steps, or raise an error that names the argument unless it is an integer >= 1."""
    text = f"every_n_steps must be an integer >= 1, got {every_n_steps!r}"
    if isinstance(every_n_steps, bool) or not isinstance(every_n_steps, int):
        raise TypeError(text)
    if every_n_steps < 1:
        raise ValueError(text)
    return every_n_steps
