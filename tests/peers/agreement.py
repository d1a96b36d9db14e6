"""The largest relative differences from implementations that others wrote, as the guide states them.

Most pairs differ by a few roundings. Instruction sets differ too, so the limits leave room.
"""

from typing import Final

__all__ = ["FLOAT32", "FLOAT64", "MATRICES", "OPTAX_ADAFACTOR"]

FLOAT64: Final = 1e-14
OPTAX_ADAFACTOR: Final = 1e-8  # optax computes the decay rate in float32
FLOAT32: Final = 2e-6
MATRICES: Final = 1e-13  # relative to the largest change of an element, not to its value
