"""The options of the rules: dataclass fields with a default and a check."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from rose_core.hyperparameters import real_number

__all__ = ["axes", "boolean", "check_options", "choice", "coefficients", "fraction", "integer", "number", "optional"]

_CHECK: Final = "check"

Check = Callable[[str, Any], Any]
"""Returns the value of the option with this name in its plain form, or raises."""


def check_options(instance: Any) -> None:
    """Check all fields of a dataclass that have a check, and set them to their plain form."""
    for field in dataclasses.fields(instance):
        if check := field.metadata.get(_CHECK):
            object.__setattr__(instance, field.name, check(field.name, getattr(instance, field.name)))


def fraction(default: Any) -> Any:
    """Return a field for a number in [0, 1), or for a tuple of them, one for each default."""
    return _field(default, _numbers("in [0, 1)", lambda x: 0.0 <= x < 1.0, default))


def number(default: Any, *, above: float = -math.inf, least: float = -math.inf, most: float = math.inf) -> Any:
    """Return a field for a finite number > `above`, >= `least` and <= `most`, or for a tuple of them."""
    limits = [
        f"{sign} {limit:g}" for sign, limit in ((">", above), (">=", least), ("<=", most)) if math.isfinite(limit)
    ]

    def allows(x: float) -> bool:
        return above < x and least <= x <= most and math.isfinite(x)

    return _field(default, _numbers(" and ".join(limits), allows, default))


def integer(default: int, *, least: int = 0) -> Any:
    """Return a field for an integer from `least` on."""

    def check(name: str, value: Any) -> int:
        if isinstance(value, bool | np.bool_) or not hasattr(value, "__index__"):
            raise TypeError(f"{name} must be an integer >= {least}, got {value!r}")
        if value < least:
            raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")
        return int(value)

    return _field(default, check)


def boolean(default: bool) -> Any:
    """Return a field for True or False."""

    def check(name: str, value: Any) -> bool:
        if not isinstance(value, bool | np.bool_):
            raise TypeError(f"{name} must be True or False, got {value!r}")
        return bool(value)

    return _field(default, check)


def axes(default: tuple[int, ...] | None) -> Any:
    """Return a field for a tuple of axes, or None if that is the default."""

    def check(name: str, value: Any) -> tuple[int, ...] | None:
        if value is None and default is None:
            return None
        if not isinstance(value, tuple | list) or not all(type(axis) is int for axis in value):
            raise TypeError(f"{name} must be a tuple of integers, got {value!r}")
        if len(set(value)) < len(value):
            raise ValueError(f"{name} must not name an axis twice, got {value!r}")
        return tuple(value)

    return _field(default, check)


def coefficients() -> Any:
    """Return a field for None, or for a tuple of tuples of three finite numbers."""
    row = number((0.0, 0.0, 0.0)).metadata[_CHECK]

    def check(name: str, value: Any) -> tuple[tuple[float, ...], ...] | None:
        if value is None:
            return None
        if not isinstance(value, tuple | list) or not value:
            raise TypeError(f"{name} must be None or a tuple of tuples of three numbers, got {value!r}")
        return tuple(row(f"{name}[{i}]", numbers) for i, numbers in enumerate(value))

    return _field(None, check)


def choice(default: Any, *others: Any) -> Any:
    """Return a field for one of these values."""
    allowed = (default, *others)

    def check(name: str, value: Any) -> Any:
        if not any(type(value) is type(other) and value == other for other in allowed):
            raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}")
        return value

    return _field(default, check)


def optional(field: Any, *, default: Any = None) -> Any:
    """Return a field that takes None, and else what `field` takes."""
    inner = field.metadata[_CHECK]
    return _field(default, lambda name, value: None if value is None else inner(name, value))


def _field(default: Any, check: Check) -> Any:
    return dataclasses.field(default=default, kw_only=True, metadata={_CHECK: check})


def _numbers(limits: str, allows: Callable[[float], bool], default: Any) -> Check:
    """Return the check of a number, or of as many numbers as the default has."""
    one = f"a finite number {limits}".strip()

    def check_one(name: str, value: Any) -> float:
        x = real_number(name, value, one)
        if not allows(x):
            raise ValueError(f"{name} must be {one}, got {value!r}")
        return x

    if not isinstance(default, tuple):
        return check_one

    def check(name: str, value: Any) -> tuple[float, ...]:
        if not isinstance(value, tuple | list) or len(value) != len(default):
            raise TypeError(f"{name} must be a tuple of {len(default)} numbers, got {value!r}")
        return tuple(check_one(f"{name}[{i}]", x) for i, x in enumerate(value))

    return check
