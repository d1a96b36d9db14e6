"""The folder of the examples, and the type of the fixture that imports one."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Final

__all__ = ["EXAMPLES", "Load"]

EXAMPLES: Final = Path(__file__).parents[1] / "examples"
Load = Callable[[str], ModuleType]
