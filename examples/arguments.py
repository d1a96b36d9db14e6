"""Types and default values of command-line arguments, for `argparse`."""

import argparse
from collections.abc import Callable

__all__ = ["Listed", "integer_in"]


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
