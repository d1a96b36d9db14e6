"""The structure of parameters and of their gradients: groups, and nested mappings, lists and tuples of arrays."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from rose_plan import differences

__all__ = ["flatten_gradients", "flatten_parameters", "is_grouped", "split_by_group"]

_PARAMS = "a mapping of names to arrays, or an iterable of arrays"


def is_grouped(params: Any) -> tuple[bool, Any]:
    """Tell whether `params` has group dicts, which have "params", and return it as a mapping or a list."""
    if isinstance(params, Mapping):
        return False, params
    if not isinstance(params, list | tuple):
        params = _listed(params, "params", "a mapping of names to arrays, an iterable of arrays or of group dicts")
    return any(isinstance(entry, Mapping) and "params" in entry for entry in params), params


def flatten_parameters(params: Any, label: str = "params") -> tuple[list[str] | None, list[Any]]:
    """Return the names of a group's arrays and the arrays. The arrays of an iterable without nesting have no names.

    The name of a nested array is its path, joined by dots. Errors call the argument `label`.
    """
    if not isinstance(params, Mapping):
        params = _listed(params, label, _PARAMS)
        if not any(isinstance(entry, Mapping | list | tuple) for entry in params):
            return None, params
    leaves = list(_leaves(params, label))
    names = [name for name, _ in leaves]
    if repeated := sorted({name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else ()):
        raise ValueError(f"{label} must have one array of each name, got several of {repeated}")
    return names, [array for _, array in leaves]


def flatten_gradients(grads: Any, names: list[str] | None, count: int, label: str) -> list[Any]:
    """Return the gradients of a group in the order of its parameters. None skips a parameter."""
    if names is None:
        if isinstance(grads, Mapping):
            raise TypeError(f"{label} must be an iterable of {count} arrays, as params are, got a mapping")
        listed = _listed(grads, label, f"an iterable of {count} arrays")
        if len(listed) != count:
            raise ValueError(f"{label} has {len(listed)} gradients for {count} parameters")
        return listed
    # The names of a nested sequence begin with the index 0.
    if not isinstance(grads, Mapping) and not (isinstance(grads, list | tuple) and names[0].partition(".")[0] == "0"):
        raise TypeError(f"{label} must be a mapping of names to arrays, as params are, got {type(grads).__name__}")
    known = set(names)
    by_name = dict(_leaves(grads, label, known))
    missing, unknown = [name for name in names if name not in by_name], [name for name in by_name if name not in known]
    if text := differences({"missing are": missing, "unknown are": unknown}):
        raise ValueError(f"{label} must have the names of params (None skips one); {text}")
    return [by_name[name] for name in names]


def split_by_group(grads: Any, names: list[list[str] | None]) -> list[Any]:
    """Return the gradients of each group, which may be in a dict as "params"."""
    allowed = f"an iterable with the gradients of each of the {len(names)} groups"
    if isinstance(grads, Mapping):
        raise TypeError(f"grads must be {allowed}, got a mapping")
    listed = _listed(grads, "grads", allowed)
    if len(listed) != len(names):
        raise ValueError(f"grads must be {allowed}, got {len(listed)}")
    return [_unwrapped(grads, group_names) for grads, group_names in zip(listed, names, strict=True)]


def _leaves(tree: Any, label: str, known: Collection[str] = (), path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the name and the value of each leaf of a tree. A value whose name is known is a leaf, whatever it is."""
    entries = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
    for key, value in entries:
        if isinstance(tree, Mapping) and not isinstance(key, str):
            raise TypeError(f"{label} must have strings as its keys, got {key!r}")
        name = f"{path}{key}"
        if isinstance(value, Mapping | list | tuple) and name not in known:
            yield from _leaves(value, label, known, f"{name}.")
        else:
            yield name, value


def _unwrapped(grads: Any, names: list[str] | None) -> Any:
    """Return the gradients in a group dict. A single array becomes a list, for a group of one array."""
    if isinstance(grads, Mapping) and set(grads) == {"params"}:
        inner = grads["params"]
        # If the group's only parameter is called "params", the dict is a mapping of names.
        grads = inner if names != ["params"] or isinstance(inner, Mapping) else grads
    return [grads] if names is None and hasattr(grads, "dtype") else grads


def _listed(values: Any, label: str, allowed: str) -> list[Any]:
    # An array would be iterated over its rows, and a string over its characters.
    if isinstance(values, Iterable) and not hasattr(values, "dtype") and not isinstance(values, str | bytes):
        return list(values)
    raise TypeError(f"{label} must be {allowed}, got {type(values).__name__}")
