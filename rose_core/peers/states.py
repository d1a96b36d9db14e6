"""States: named tuples of arrays, which may be nested. An unused field is None."""

from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["leaf_names", "leaves", "map_leaves", "matched_leaves", "rebuilt"]


def leaves(state: Any) -> list[Any]:
    """Return the arrays of a state in order, None for each unused field."""
    return [leaf for _, leaf in _items(state, "")]


def leaf_names(state: Any) -> list[str]:
    """Return the names of the arrays, as "rule.exp_avg" for one within a nested state."""
    return [name for name, _ in _items(state, "")]


def matched_leaves(state: Any, like: Any, name: str = "state") -> Iterator[tuple[str, Any, Any]]:
    """Yield the name of each array, the array in `state`, and the array in `like`. Raise if the structures differ."""
    if not isinstance(state, type(like)):
        raise TypeError(
            f"{name} must be the named tuple that init returns, {type(like).__name__} of {leaf_names(like)}, "
            f"got {type(state).__name__}"
        )
    for field, value, expected in zip(like._fields, state, like, strict=True):
        if isinstance(expected, tuple):
            yield from matched_leaves(value, expected, f"{name}.{field}")
        else:
            yield f"{name}.{field}", value, expected


def rebuilt(state: Any, new_leaves: Iterator[Any]) -> Any:
    """Return a state of the same structure with other leaves, in order."""
    fields = [rebuilt(field, new_leaves) if isinstance(field, tuple) else next(new_leaves) for field in state]
    return type(state)(*fields)


def map_leaves(function: Callable[..., Any], state: Any, *others: Any) -> Any:
    """Return the state with the results of a function of each leaf, and of the leaves there of other states."""
    columns = zip(leaves(state), *map(leaves, others), strict=True)
    return rebuilt(state, iter([None if column[0] is None else function(*column) for column in columns]))


def _items(state: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, field in zip(state._fields, state, strict=True):
        if isinstance(field, tuple):
            yield from _items(field, f"{prefix}{name}.")
        else:
            yield prefix + name, field
