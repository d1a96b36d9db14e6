"""What shows a diagnosis, and is optional."""

import importlib
from typing import Any

__all__ = ["optional_module"]


def optional_module(name: str, purpose: str) -> Any:
    """Import a module for a purpose, or raise an error that names the extra that brings it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        library = name.partition(".")[0]
        raise ImportError(f"{purpose} needs {library}: pip install 'rose-core[diagnosis]'") from error
