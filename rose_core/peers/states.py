"""States: named tuples of arrays, which may be nested. An unused field is None."""

from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["leaf_names", "leaves", "map_leaves", "rebuilt"]


def leaves(state: Any) -> list[Any]:
    """Return the arrays of a state in order, None for each unused field."""
    return [leaf for _, leaf in _items(state, "")]


def leaf_names(state: Any) -> list[str]:
    """Return the names of the arrays, as "rule.exp_avg" for one within a nested state."""
    return [name for name, _ in _items(state, "")]


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
