"""Arrays that the caller owns, in groups with options: what all optimizers over arrays share."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from operator import is_
from typing import Any, ClassVar, Final

import numpy as np

from rose_arrays.groups import SCHEDULE, label_of, schedule_of
from rose_arrays.structure import flatten_gradients, flatten_parameters, is_grouped, split_by_group
from rose_core.namespace import floating_dtype
from rose_plan import has_repeated_elements, require_no_option, span_of

__all__ = ["OwnedArrays", "array_span"]

# The entries of a group besides its options: the arrays, their names, and the structure that the user gave.
_OWN_ENTRIES: Final = ("params", "names", "source", "step")


class OwnedArrays:
    """Groups of arrays with their options. It is the base class of the optimizers over arrays."""

    param_groups: list[dict[str, Any]]
    _grouped: bool
    _option_names: ClassVar[tuple[str, ...]] = ()

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add a group of parameters. After that, `step` takes a sequence with the gradients of each group.

        Parameters
        ----------
        group : mapping
            "params", a mapping of names to arrays or an iterable of arrays, and options that override
            those given to the constructor.

        Raises
        ------
        TypeError, ValueError
            If an array or an option is not allowed, or an array is in a group already.
        """
        self._add(group)
        self._grouped = True

    def __setattr__(self, name: str, value: Any) -> None:
        require_no_option(name, self._option_names, ("nonfinite", "fused"))
        super().__setattr__(name, value)

    def _require_known(self, unknown: Mapping[str, Any], allowed: Sequence[str]) -> None:
        """Raise if the constructor got options that it does not know."""
        if unknown:
            raise TypeError(f"{type(self).__name__} has no option {next(iter(unknown))!r}; it has {', '.join(allowed)}")

    def _check_param(self, array: Any, label: str) -> None:
        """Raise unless this optimizer can update the array in place."""
        raise NotImplementedError

    def _addresses_of(self, arrays: Sequence[Any]) -> np.ndarray:
        """Return the address of the first element of each array, in int64."""
        raise NotImplementedError

    def _options_of_new_group(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return all options of a new group, validated, in their plain form."""
        raise NotImplementedError

    def _add_all(self, params: Any) -> None:
        """Add the parameters that the constructor got."""
        self.param_groups = []
        self._grouped, params = is_grouped(params)
        if not params:
            raise ValueError("params must hold at least one array, got none")
        for group in params if self._grouped else [{"params": params}]:
            self._add(group)

    def _add(self, group: Mapping[str, Any]) -> None:
        label = f"group {len(self.param_groups)}"
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(f'{label} must be a mapping with "params", got {group!r}')
        if unknown := [option for option in group if option not in ("params", *self._option_names, *SCHEDULE)]:
            allowed = ", ".join((*self._option_names, *SCHEDULE))
            raise TypeError(f"{label} has the unknown options {unknown}; allowed are {allowed}")
        params = group["params"]
        names, arrays = flatten_parameters([params] if hasattr(params, "dtype") else params)
        if not arrays:
            raise ValueError(f"params of {label} must hold at least one array, got none")
        options = self._options_of_new_group(
            {option: group[option] for option in group if option in self._option_names}
        )
        schedule = schedule_of(group)
        known = {id(array) for other in self.param_groups for array in other["params"]}
        for position, array in enumerate(arrays):
            name = label_of(names, position, "params")
            self._check_param(array, name)
            floating_dtype(array, name)
            if has_repeated_elements(array.shape, [abs(stride) // array.itemsize for stride in array.strides]):
                raise ValueError(f"{name} has elements that share memory, so it cannot be updated in place")
            if id(array) in known:
                raise ValueError(f"{name} of {label} is given twice; each array can be in one place only")
            known.add(id(array))
        source = params if isinstance(params, Mapping | list | tuple) else arrays
        self.param_groups.append({"params": arrays, "names": names, "source": source, **options, **schedule})

    def _by_group(self, grads: Any) -> Iterator[tuple[dict[str, Any], list[Any]]]:
        """Return each group with its gradients in order."""
        names = [group["names"] for group in self.param_groups]
        structures = split_by_group(grads, names) if self._grouped else [grads]
        for number, (group, structure) in enumerate(zip(self.param_groups, structures, strict=True)):
            label = f"grads of group {number}" if self._grouped else "grads"
            self._check_group(group, number)
            yield group, flatten_gradients(structure, group["names"], len(group["params"]), label)

    @cached_property
    def _known_entries(self) -> frozenset[str]:
        return frozenset((*_OWN_ENTRIES, *self._option_names, *SCHEDULE))

    def _check_group(self, group: Mapping[str, Any], number: int) -> None:
        """Raise if the owner of a group has added unknown entries to it, or has replaced its arrays."""
        if unknown := sorted(group.keys() - self._known_entries):
            allowed = ", ".join((*self._option_names, *SCHEDULE))
            raise TypeError(f"group {number} has the unknown options {unknown}; allowed are {allowed}")
        _require_same_arrays(group)


def _require_same_arrays(group: Mapping[str, Any]) -> None:
    """Raise if the structure that the parameters were given in has other arrays now, which no step would update."""
    source, arrays = group["source"], group["params"]
    held = source.values() if isinstance(source, Mapping) else source
    if len(source) == len(arrays) and all(map(is_, held, arrays)):
        return
    names, held = flatten_parameters(source)
    if names != group["names"] or len(held) != len(arrays):
        raise ValueError(
            f"params have the arrays {names or len(held)} now, and had {group['names'] or len(arrays)} when the "
            "optimizer was made; add arrays with add_param_group, or make a new optimizer"
        )
    for position, (now, array) in enumerate(zip(held, arrays, strict=True)):
        if now is not array:
            name = label_of(names, position, "params")
            raise ValueError(
                f"{name} was replaced by another array, which the optimizer does not update; write new values into the "
                f"array, as in {name}[...] = values, or make a new optimizer"
            )


def array_span(array: Any) -> tuple[int, int]:
    """Return the span of an array in memory, as `rose_plan.span_of` does."""
    return span_of(array.shape, array.strides, array.itemsize)
