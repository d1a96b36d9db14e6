"""Arrays that the caller owns, in groups with options: what all optimizers over arrays share."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from rose_arrays.groups import SCHEDULE, label_of, schedule_of
from rose_arrays.structure import flatten_gradients, flatten_parameters, is_grouped, split_by_group
from rose_core.namespace import floating_dtype
from rose_plan import has_repeated_elements

__all__ = ["OwnedArrays"]


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
            raise TypeError(f"{label} has the unknown options {unknown}; allowed are {', '.join(self._option_names)}")
        params = group["params"]
        names, arrays = flatten_parameters([params] if hasattr(params, "dtype") else params)
        options = self._options_of_new_group(
            {option: group[option] for option in group if option in self._option_names}
        )
        schedule = schedule_of(group)
        known = {id(array) for other in self.param_groups for array in other["params"]}
        for position, array in enumerate(arrays):
            name = label_of(names, position, "params")
            floating_dtype(array, name)
            self._check_param(array, name)
            if has_repeated_elements(array.shape, [abs(stride) // array.itemsize for stride in array.strides]):
                raise ValueError(f"{name} has elements that share memory, so it cannot be updated in place")
            if id(array) in known:
                raise ValueError(f"{name} of {label} is given twice; each array can be in one place only")
            known.add(id(array))
        self.param_groups.append({"params": arrays, "names": names, **options, **schedule})

    def _by_group(self, grads: Any) -> Iterator[tuple[dict[str, Any], list[Any]]]:
        """Return each group with its gradients in order."""
        names = [group["names"] for group in self.param_groups]
        structures = split_by_group(grads, names) if self._grouped else [grads]
        for number, (group, structure) in enumerate(zip(self.param_groups, structures, strict=True)):
            label = f"grads of group {number}" if self._grouped else "grads"
            yield group, flatten_gradients(structure, group["names"], len(group["params"]), label)
