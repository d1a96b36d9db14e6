"""Options that are set in the wrong place."""

from collections.abc import Iterable

__all__ = ["require_no_option"]


def require_no_option(name: str, of_groups: Iterable[str], of_constructor: Iterable[str] = ()) -> None:
    """Raise if an attribute that is set on an optimizer has the name of an option, and so would do nothing."""
    if name in of_groups:
        raise AttributeError(f"{name} is an option of the groups; set it as optimizer.param_groups[0][{name!r}]")
    if name in of_constructor:
        raise AttributeError(f"{name} is an option of the constructor; pass it to a new optimizer")
