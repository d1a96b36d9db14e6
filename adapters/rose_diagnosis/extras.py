"""The optional libraries that show a diagnosis."""

import importlib
from typing import Any

__all__ = ["optional_module"]


def optional_module(name: str, purpose: str) -> Any:
    """Import a module, or raise an error that names the purpose and the extra to install."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        library = name.partition(".")[0]
        raise ImportError(f"{purpose} needs {library}: pip install 'rose-core[diagnosis]'") from error
