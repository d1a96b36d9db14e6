"""The arithmetic of the machine, where it has the same bits as the exact arithmetic of `rose_spec.floats`.

Only the diagnosis of a port uses it, since it tries thousands of wrong steps. The answers of the oracle never do.
"""

import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

__all__ = ["by_machine", "machine_arithmetic", "sum_by_machine"]

_in_use = False


@contextmanager
def machine_arithmetic() -> Iterator[None]:
    """Let `rose_spec.floats` use the arithmetic of the machine."""
    global _in_use  # noqa: PLW0603  (the operations are functions, which the oracle calls everywhere)
    before, _in_use = _in_use, True
    try:
        yield
    finally:
        _in_use = before


def by_machine(value: float, width: int, precision: int) -> float | None:
    """Round a float64 result of the machine to a format, or return None if the exact result may be rounded otherwise.

    The result is rounded twice, first to float64. This equals one rounding, unless the first one gives a tie.
    """
    if not _in_use:
        return None
    low, high = _normal_range(width, precision)
    if not low < abs(value) < high:
        return None
    if width == 64:
        return value
    (word,) = struct.unpack("<q", struct.pack("<d", value))
    unit = 1 << (53 - precision)
    if word % unit == unit // 2:
        return None
    (rounded,) = struct.unpack("<d", struct.pack("<q", (word + unit // 2) // unit * unit))
    return float(rounded)


def sum_by_machine(values: Sequence[float]) -> float | None:
    """Return the correctly rounded sum, or None if it may overflow."""
    return math.fsum(values) if _in_use and all(abs(value) < 2.0**900 for value in values) else None


@cache
def _normal_range(width: int, precision: int) -> tuple[float, float]:
    """Return magnitudes between which all values are normal, and far from overflow."""
    bias = 2 ** (width - precision - 1) - 1
    return 2.0 ** (2 - bias), 2.0 ** (bias - 1)
