"""Options that are set in the wrong place or misspelt, and names that do not fit."""

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

from rose_plan.warnings import warn_user

__all__ = ["differences", "require_no_option", "warn_of_misspelt_options"]


def warn_of_misspelt_options(group: Mapping[str, Any], number: int, options: tuple[str, ...]) -> None:
    """Warn about misspelt options in a group. It may have other entries, as those of frameworks."""
    for name in group:
        if name not in options and (meant := _closest(str(name), options)):
            warn_user(f"group {number} has an entry {name!r}, which is no option; did you mean {meant!r}?")


@cache
def _closest(name: str, options: tuple[str, ...]) -> str | None:
    """Return the option with nearly this name, None if there is none."""
    return next(iter(get_close_matches(name, options, n=1, cutoff=0.85)), None)


def differences(names: Mapping[str, Collection[str]]) -> str:
    """Return a text with the names of each kind, such as those that are missing. It leaves out kinds without names."""
    return " and ".join(f"{kind} {of_kind}" for kind, of_kind in names.items() if of_kind)


def require_no_option(name: str, of_groups: Iterable[str], of_constructor: Iterable[str] = ()) -> None:
    """Raise if an attribute that is set on an optimizer has the name of an option, and so would do nothing."""
    if name in of_groups:
        raise AttributeError(f"{name} is an option of the groups; set it as optimizer.param_groups[0][{name!r}]")
    if name in of_constructor:
        raise AttributeError(f"{name} is an option of the constructor; pass it to a new optimizer")
