"""Types and default values of command-line arguments, for `argparse`."""

import argparse
import math
from collections.abc import Callable

__all__ = ["Listed", "integer_in", "positive_number"]


class Listed(tuple):
    """Default values. The help shows them as they are typed on the command line."""

    def __str__(self) -> str:
        return " ".join(map(str, self))


def integer_in(least: int, most: int) -> Callable[[str], int]:
    """Return a function that parses an integer in [least, most]."""

    def integer(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be an integer in [{least}, {most}], got {text}")
        return value

    return integer


def positive_number(text: str) -> float:
    """Parse a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a finite number > 0, got {text}")
    return value
