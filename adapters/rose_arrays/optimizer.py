"""An optimizer over the caller's own arrays: groups of parameters, all-or-nothing steps, resumable state."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from rose_arrays.groups import (
    OPTIONS,
    SCHEDULE,
    label_of,
    loaded_group,
    options_of,
    plain_options,
    schedule_of,
    warn_of_groups,
)
from rose_arrays.steps import (
    Addresses,
    Found,
    Given,
    Updates,
    reaches_of,
    run_by_core,
    sharing_of,
    with_gradients_apart,
)
from rose_arrays.structure import flatten_gradients, flatten_parameters, is_grouped, split_by_group
from rose_core import Hyperparameters
from rose_core.decay import after_step, scheduled_decay_factor
from rose_core.namespace import floating_dtype
from rose_core.noise import Name
from rose_core.rounding import ComputeDtype
from rose_core.update import checked_compute_dtype, repeats_memory

__all__ = ["ArrayOptimizer"]

# Parameters may be skipped by turns: what the checks have found is kept for so many signatures.
_REMEMBERED: Final = 4


class ArrayOptimizer:
    """Rose over arrays that the caller owns, updated in place from the gradients it is given.

    The base of `rose_numpy.Rose` and `rose_cupy.Rose`, which say what array they take.
    """

    param_groups: list[dict[str, Any]]

    def __init__(
        self,
        params: Any,
        lr: float,
        *,
        weight_decay: float | None = 1e-4,
        wd_schedule: bool | float = False,
        centralize: bool = True,
        stabilize: bool = True,
        bf16_sr: bool = True,
        compute_dtype: Any = "fp64",
        maximize: bool = False,
        sr_seed: int = 0,
        fused: bool | None = None,
    ) -> None:
        self._use_kernels(fused)
        self.defaults = plain_options(
            lr=lr,
            weight_decay=weight_decay,
            wd_schedule=wd_schedule,
            centralize=centralize,
            stabilize=stabilize,
            bf16_sr=bf16_sr,
            compute_dtype=compute_dtype,
            maximize=maximize,
            sr_seed=sr_seed,
        )
        self.param_groups = []
        self._known: list[tuple[Any, Found]] = []  # what the checks of the last steps have found, and of what
        self._grouped, params = is_grouped(params)
        if not params:
            raise ValueError("params must hold at least one array, got none")
        for group in params if self._grouped else [{"params": params}]:
            self._add(group)
        warn_of_groups(self.param_groups, 0)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add a group of parameters; from then on `step` takes a sequence with the gradients of each group.

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
        warn_of_groups(self.param_groups, len(self.param_groups) - 1)

    def step(self, grads: Any) -> None:
        """Update every parameter that has a gradient, in place.

        Parameters
        ----------
        grads : mapping, iterable, or iterable of those
            The gradients, in the structure the parameters were given in: a mapping of the same names, an
            iterable of the same length, or one of these (or a dict with it as "params") for each group.
            None skips a parameter.

        Raises
        ------
        TypeError, ValueError
            If the structure, an array or an option is not allowed. Nothing is changed then (ROSE-11.3).
        """
        updates = self._updates(grads)
        afterwards = [after_step(group, float(group["lr"])) for group in self.param_groups]
        addresses = Addresses(self._addresses_of(updates.params), self._addresses_of(updates.grads))
        sharing = sharing_of(updates.found, addresses)
        self._prepare(updates)
        self._run_in_order(with_gradients_apart(updates, sharing.grads), addresses, sharing.params)
        for group, kept in zip(self.param_groups, afterwards, strict=True):
            group.update(kept)

    def state_dict(self) -> dict[str, Any]:
        """Return all that a later run needs to continue bit for bit, besides the arrays themselves.

        Returns
        -------
        dict
            Plain values that JSON can hold. "params" in each group are the positions of its arrays.
        """
        groups, start = [], 0
        for group in self.param_groups:
            end, names = start + len(group["params"]), group["names"]
            places = {"params": list(range(start, end)), "names": None if names is None else list(names)}
            groups.append({**places, **asdict(options_of(group)), **schedule_of(group), "step": group["step"]})
            start = end
        return {"param_groups": groups}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the options, schedules and step counts of another run of the same parameters.

        Parameters
        ----------
        state : mapping
            What `state_dict` returned.

        Raises
        ------
        TypeError, ValueError
            If it does not fit these parameters, lacks a key or has an unknown one. Nothing is changed then.
        """
        groups = state["param_groups"] if isinstance(state, Mapping) and "param_groups" in state else None
        if not isinstance(groups, list):
            raise TypeError('state must be a mapping with a list "param_groups", as state_dict returns it')
        if len(groups) != len(self.param_groups):
            raise ValueError(f"state has {len(groups)} groups, this optimizer {len(self.param_groups)}")
        pairs = zip(self.param_groups, groups, strict=True)
        loaded = [loaded_group(own, other, number) for number, (own, other) in enumerate(pairs)]
        self.param_groups = loaded

    def named_gradients(self, grads: Any) -> Iterator[tuple[str, Any, Any, Hyperparameters]]:
        """Return the name, the array, the gradient (or None) and the options of each parameter.

        Parameters
        ----------
        grads : mapping, iterable, or iterable of those
            The gradients, as `step` takes them.

        Raises
        ------
        TypeError, ValueError
            If the structure or an option is not allowed.
        """
        for number, (group, grads_of_group) in enumerate(self._by_group(grads)):
            options, names = options_of(group), group["names"]
            of_group = f" of group {number}" if self._grouped else ""
            for position, (param, grad) in enumerate(zip(group["params"], grads_of_group, strict=True)):
                name = f"params[{position}]" if names is None else names[position]
                yield name + of_group, param, grad, options

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for number, group in enumerate(self.param_groups):
            lines.append(f"  group {number}: {len(group['params'])} arrays")
            lines += [f"    {option}: {group[option]}" for option in OPTIONS]
        return "\n".join([*lines, ")"])

    def _check_param(self, array: Any, label: str) -> None:
        """Raise unless the array is one that this optimizer can update in place."""
        raise NotImplementedError

    def _addresses_of(self, arrays: Sequence[Any]) -> Sequence[int]:
        """Return the address of the first element of each array."""
        raise NotImplementedError

    def _use_kernels(self, fused: bool | None) -> None:
        """Prepare for kernels, of which this class has none, or raise if they are asked for."""
        if fused is not None and fused is not False:
            raise ValueError(f"fused must be None or False for {type(self).__module__}, got {fused!r}")

    def _signature(self, params: Sequence[Any], grads: Sequence[Any]) -> Any:  # noqa: ARG002
        """Return all of the arrays that the checks of a step look at, None where they are to be made at each."""
        return None

    def _kernel_of(self, param: Any, grad: Any, options: Hyperparameters, compute: ComputeDtype) -> Any:  # noqa: ARG002
        """Return what may update the parameter in place of the core, None if nothing may."""
        return None

    def _prepare(self, updates: Updates) -> None:
        """Do what can fail before anything is changed."""

    def _run_in_order(self, updates: Updates, addresses: Addresses, in_turn: Sequence[int]) -> None:
        """Do a step, some parts of it one after the other."""
        self._run(updates, addresses, sorted(set(range(len(updates.params))) - set(in_turn)))
        for place in in_turn:
            self._run(updates, addresses, [place])

    def _run(self, updates: Updates, addresses: Addresses, places: Sequence[int]) -> None:  # noqa: ARG002
        """Do the parts of a step at some places, where parameters lie apart."""
        run_by_core(updates.at(places))

    def _add(self, group: Mapping[str, Any]) -> None:
        label = f"group {len(self.param_groups)}"
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(f'{label} must be a mapping with "params", got {group!r}')
        if unknown := [option for option in group if option not in ("params", *OPTIONS, *SCHEDULE)]:
            raise TypeError(f"{label} has the unknown options {unknown}; allowed are {', '.join(OPTIONS)}")
        params = group["params"]
        names, arrays = flatten_parameters([params] if hasattr(params, "dtype") else params)
        given = {option: group[option] for option in group if option in OPTIONS}
        options = plain_options(**{**self.defaults, **given})
        schedule = schedule_of(group)
        known = {id(array) for own in self.param_groups for array in own["params"]}
        for position, array in enumerate(arrays):
            name = label_of(names, position, "params")
            floating_dtype(array, name)
            self._check_param(array, name)
            if repeats_memory(array.shape, [abs(stride) // array.itemsize for stride in array.strides]):
                raise ValueError(f"{name} has elements that share memory, so it cannot be updated in place")
            if id(array) in known:
                raise ValueError(f"{name} of {label} is given twice; each array can be in one place only")
            known.add(id(array))
        self.param_groups.append({"params": arrays, "names": names, **options, **schedule, "step": 0})

    def _updates(self, grads: Any) -> Updates:
        """Check the whole step and return its parts; nothing is changed."""
        groups = list(self._given(grads))
        given = [array for own in groups for array in own.grads]
        params = [param for own in groups for param in own.params]
        found = self._found(groups, params, given)
        options = [own.options for own in groups for _ in own.places]
        factors = [own.factor for own in groups for _ in own.places]
        noise: list[Name | None] = [None] * len(params)
        if any(found.stochastic):
            names = [name for own in groups for name in own.names_of_noise()]
            noise = [name if rounds else None for name, rounds in zip(names, found.stochastic, strict=True)]
        return Updates(params, given, options, factors, noise, found)

    def _given(self, grads: Any) -> Iterator[Given]:
        """Return of each group what of it has a gradient."""
        first = 0
        for group, grads_of_group in self._by_group(grads):
            options, params = options_of(group), group["params"]
            places = [place for place, grad in enumerate(grads_of_group) if grad is not None]
            own = [params[place] for place in places], [grads_of_group[place] for place in places]
            yield Given(group, options, scheduled_decay_factor(options, group), first, places, *own)
            first += len(params)

    def _found(self, groups: Sequence[Given], params: Sequence[Any], grads: Sequence[Any]) -> Found:
        """Return what the checks find, or found in one of the last steps if nothing that they look at has changed."""
        signature = self._signature(params, grads)
        looked_at = signature, [own.chosen() for own in groups]
        if signature is not None:
            for known, found in self._known:
                if known == looked_at:
                    return found
        checked = [one for own in groups for one in self._checked(own)]
        computes, stochastic, kernels = zip(*checked, strict=True) if checked else ((), (), ())
        found = Found(computes, stochastic, kernels, reaches_of(params), reaches_of(grads))
        if signature is not None:
            self._known = [(looked_at, found), *self._known[: _REMEMBERED - 1]]
        return found

    def _checked(self, own: Given) -> Iterator[tuple[ComputeDtype, bool, Any]]:
        """Check what is given of a group, and return what it finds: a row of the columns of `Found` each."""
        options = own.options
        for place, param, grad in zip(own.places, own.params, own.grads, strict=True):
            names = label_of(own.group["names"], place, "params"), label_of(own.group["names"], place, "grads")
            self._check_param(param, names[0])
            stochastic = options.rounds_stochastically(param)
            compute = checked_compute_dtype(param, grad, options.compute_dtype, stochastic=stochastic, names=names)
            yield compute, stochastic, self._kernel_of(param, grad, options, compute)

    def _by_group(self, grads: Any) -> Iterator[tuple[dict[str, Any], list[Any]]]:
        """Return each group with its gradients in order."""
        names = [group["names"] for group in self.param_groups]
        structures = split_by_group(grads, names) if self._grouped else [grads]
        for number, (group, structure) in enumerate(zip(self.param_groups, structures, strict=True)):
            label = f"grads of group {number}" if self._grouped else "grads"
            yield group, flatten_gradients(structure, group["names"], len(group["params"]), label)
