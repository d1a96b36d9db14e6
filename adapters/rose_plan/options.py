"""Options that are set in the wrong place."""

from collections.abc import Iterable

__all__ = ["require_no_option"]


def require_no_option(name: str, options: Iterable[str]) -> None:
    """Raise if an attribute that is set on an optimizer has the name of an option, which the groups have."""
    if name in options:
        raise AttributeError(f"{name} is an option of the groups; set it as optimizer.param_groups[0][{name!r}]")
