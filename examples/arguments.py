"""Readers of arguments on the command line."""

import argparse
from collections.abc import Callable

__all__ = ["integer_in"]


def integer_in(least: int, most: int) -> Callable[[str], int]:
    """Return a reader of integers in [least, most]."""

    def integer(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be an integer in [{least}, {most}], got {text}")
        return value

    return integer
