"""An optimizer over the caller's arrays: groups of parameters, all-or-nothing steps, resumable state."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from rose_arrays.groups import (
    OPTIONS,
    dtypes_of,
    label_of,
    loaded_group,
    options_of,
    plain_options,
    schedule_of,
    shapes_of,
    warn_of_groups,
)
from rose_arrays.owned import OwnedArrays, array_span
from rose_arrays.rows import check_rows, stepped_rows
from rose_core import Hyperparameters
from rose_core.decay import after_step, group_decay_factor
from rose_core.noise import NoiseKey, noise_in_range
from rose_core.rounding import ComputeDtype
from rose_core.update import checked_compute_dtype
from rose_kernels import Kernel
from rose_plan import (
    CheckCache,
    CheckedRow,
    Group,
    Plan,
    Properties,
    StepWarnings,
    checked_nonfinite,
    shared_memory,
    skips_step,
    subnormals_kept,
    uninterrupted,
    update_by_core,
)

__all__ = ["ArrayOptimizer"]


class ArrayOptimizer(OwnedArrays):
    """Rose over arrays that the caller owns. A step takes their gradients and updates them in place.

    It is the base class of `rose_numpy.Rose` and `rose_cupy.Rose`.
    """

    _option_names = OPTIONS
    _fused: bool | None = False

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
        max_step: float | None = None,
        nonfinite: str = "propagate",
        fused: bool | None = None,
        **unknown: Any,
    ) -> None:
        self._require_known(unknown, (*OPTIONS, "nonfinite", "fused"))
        self._use_kernels(fused)
        self._nonfinite, self.skipped_steps = checked_nonfinite(nonfinite), 0
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
            max_step=max_step,
        )
        self._checks, self._warnings = CheckCache(self._properties), StepWarnings()
        self._add_all(params)
        warn_of_groups(self.param_groups, 0)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        super().add_param_group(group)
        warn_of_groups(self.param_groups, len(self.param_groups) - 1)

    add_param_group.__doc__ = OwnedArrays.add_param_group.__doc__

    @subnormals_kept
    def step(self, grads: Any) -> None:
        """Update every parameter that has a gradient, in place.

        Parameters
        ----------
        grads : mapping, iterable, or iterable of those
            The gradients, in the structure of the parameters: a mapping of the same names, or an iterable of the
            same length. With groups, an iterable with one of these for each group, which may stand in a dict as
            "params". None skips a parameter.

        Raises
        ------
        TypeError, ValueError
            If the structure, an array or an option is not allowed. Nothing is changed then (ROSE-11.3).
        FloatingPointError
            If a gradient has an infinity or a NaN, with ``nonfinite="raise"``. Nothing is changed then.

        Warns
        -----
        UserWarning
            If a decay has grown with `lr` beyond 1e-3 a step. If an element moves by more than 1,000 times `lr` at step
            1, 10, 100 and so on, and `max_step` is None; gradients of CuPy are not read for that.
        """
        plan = self._plan(grads)
        if skips_step(self._nonfinite, plan.grads, plan.name):
            self.skipped_steps += 1
            return
        afterwards = [after_step(group, float(group["lr"])) for group in self.param_groups]
        self._warnings.check(plan, list(enumerate(self.param_groups)), partial(self._readable, plan.grads))
        write = self._prepare_run(plan)
        with uninterrupted():
            write()
            for group, entries in zip(self.param_groups, afterwards, strict=True):
                group.update(entries)

    @subnormals_kept
    def step_rows(self, name: str | int, rows: Any, grad: Any) -> None:
        """Update some rows of an array in place, as if they were the whole array.

        Use it for embeddings and other tables of which a step touches a few rows. In a whole step, the rows without a
        gradient have the range 0, which lowers the mean range, so that the touched rows move very far.

        Parameters
        ----------
        name : str or int
            The name of the array, or its position in the sequence of parameters.
        rows : array of integers, shape (n,)
            The rows, each once: add up the gradients of a repeated row first.
        grad : array, shape (n, ...)
            The gradient of these rows.

        Raises
        ------
        TypeError, ValueError, FloatingPointError
            As for `step`, and if a row is out of range or repeated. Nothing is changed then.

        Notes
        -----
        The other rows do not decay. It counts as a step of the group. The rounding noise of an element depends on its
        position in the whole array.

        Examples
        --------
        >>> import numpy as np
        >>> from rose_numpy import Rose
        >>> table = np.ones((1000, 2))
        >>> optimizer = Rose({"table": table}, lr=0.5, weight_decay=0.0)
        >>> optimizer.step_rows("table", np.asarray([3, 7]), np.asarray([[1.0, 3.0], [2.0, 0.0]]))
        >>> table[[3, 7, 8]].tolist()
        [[1.25, 0.75], [0.75, 1.25], [1.0, 1.0]]
        """
        number, position, index = self._find(name)
        group = self.param_groups[number]
        self._check_group(group, number)
        param, label = group["params"][position], label_of(group["names"], position, "params")
        self._check_param(param, label)
        check_rows(rows, param, label)
        stepped = stepped_rows(group, options_of(group, number), index, param, label, rows, grad)
        if skips_step(self._nonfinite, [grad], lambda _: label):
            self.skipped_steps += 1
            return
        afterwards = after_step(group, float(group["lr"]))
        with uninterrupted():
            param[rows] = stepped
            group.update(afterwards)

    def _find(self, name: str | int) -> tuple[int, int, int]:
        """Return the number of the group of an array, its position there, and its index among all arrays."""
        first, found = 0, []
        known: list[Iterable[str | int]] = []
        for number, group in enumerate(self.param_groups):
            names = group["names"] or range(first, first + len(group["params"]))
            found += [(number, position, first + position) for position, here in enumerate(names) if here == name]
            known.append(names)
            first += len(group["params"])
        if not found:
            raise ValueError(f"name must be one of {list(chain(*known))}, got {name!r}")
        if len(found) > 1:
            raise ValueError(f"name must be that of one array; {len(found)} have {name!r}")
        return found[0]

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a later run needs to continue bit for bit, besides the arrays.

        Returns
        -------
        dict
            Plain values that JSON can hold. In each group, "params" has the positions of its arrays. A `max_step` of
            infinity is `Infinity` in Python's `json`, which strict parsers refuse.
        """
        groups, start = [], 0
        for number, group in enumerate(self.param_groups):
            end, names = start + len(group["params"]), group["names"]
            params = {"params": list(range(start, end)), "names": None if names is None else list(names)}
            params |= {"shapes": shapes_of(group["params"]), "dtypes": dtypes_of(group["params"])}
            groups.append({**params, **asdict(options_of(group, number)), **schedule_of(group), "step": group["step"]})
            start = end
        return {"param_groups": groups}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the options, schedules and step counts of another run of the same parameters.

        Parameters
        ----------
        state : mapping
            The return value of `state_dict`.

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
        loaded = [loaded_group(current, saved, number) for number, (current, saved) in enumerate(pairs)]
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
            options, names = options_of(group, number), group["names"]
            of_group = f" of group {number}" if self._grouped else ""
            for position, (param, grad) in enumerate(zip(group["params"], grads_of_group, strict=True)):
                name = f"params[{position}]" if names is None else names[position]
                yield name + of_group, param, grad, options

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for number, group in enumerate(self.param_groups):
            lines.append(f"  group {number}: {len(group['params'])} arrays")
            lines += [f"    {option}: {group[option]}" for option in (*OPTIONS, "step")]
        lines += [f"  nonfinite: {self._nonfinite}", f"  fused: {self._fused}"]
        return "\n".join([*lines, ")"])

    @staticmethod
    def _readable(grads: Sequence[Any], position: int) -> Any:
        """Return a gradient that warnings may read, None if the host would wait for it."""
        return grads[position]

    def _use_kernels(self, fused: bool | None) -> None:
        """Choose whether kernels run the updates. This class has none, and raises if they are asked for."""
        if fused is not None and fused is not False:
            raise ValueError(f"fused must be None or False for {type(self).__module__}, got {fused!r}")

    @staticmethod
    def _properties(params: Sequence[Any], grads: Sequence[Any]) -> Properties | None:  # noqa: ARG004
        """Return the properties of the arrays that `_check` depends on, None to check them at every step."""
        return None

    def _kernel_of(self, param: Any, grad: Any, options: Hyperparameters, compute: ComputeDtype) -> Kernel | None:  # noqa: ARG002
        """Return the kernel that updates the parameter, None if the core does."""
        return None

    def _prepare_run(self, plan: Plan) -> Callable[[], None]:
        """Return a function that writes the parameters of a planned step."""
        addresses = self._addresses_of(plan.params), self._addresses_of(plan.grads)
        overlap = shared_memory(addresses[0], plan.checked.param_spans, addresses[1], plan.checked.grad_spans)
        plan = plan.with_gradients({position: plan.grads[position].copy() for position in overlap.grads})
        return partial(self._run, plan, addresses, overlap.params)

    def _run(self, plan: Plan, addresses: tuple[np.ndarray, np.ndarray], overlapping: Sequence[int]) -> None:
        """Write the parameters: first those that do not overlap, then the others in their order."""
        in_order = set(overlapping)
        apart = [position for position in range(len(plan.params)) if position not in in_order]
        self._run_updates(plan, addresses, apart)
        for position in overlapping:
            self._run_updates(plan, addresses, [position])

    def _run_updates(
        self,
        plan: Plan,
        addresses: tuple[np.ndarray, np.ndarray],  # noqa: ARG002
        positions: Sequence[int],
    ) -> None:
        """Run updates whose parameters do not overlap."""
        for position in positions:
            update = plan.update(position)
            noise = update.noise and partial(noise_in_range, update.noise, like=update.param)
            update_by_core(update, noise)

    def _options_of_new_group(self, given: dict[str, Any]) -> dict[str, Any]:
        return {**plain_options(**{**self.defaults, **given}), "step": 0}

    def _plan(self, grads: Any) -> Plan:
        """Check the whole step and return its plan. Nothing is changed."""
        indices: list[int] = []
        owners: list[_Owner] = []
        params: list[Any] = []
        given_grads: list[Any] = []
        groups, chosen, first = [], [], 0
        for number, (group, grads_of_group) in enumerate(self._by_group(grads)):
            options, length = options_of(group, number), len(group["params"])
            positions = [i for i, grad in enumerate(grads_of_group) if grad is not None]
            indices += [first + i for i in positions]
            owners += [_Owner(group, options, first)] * len(positions)
            params += [group["params"][i] for i in positions]
            given_grads += [grads_of_group[i] for i in positions]
            groups.append(Group(options, group_decay_factor(options, group), len(positions), self._fused))
            checked = options.centralize, options.stabilize, options.bf16_sr, options.compute_dtype
            chosen.append((checked, len(positions)))
            first += length

        def check(position: int) -> CheckedRow:
            return self._check(owners[position], indices[position], params[position], given_grads[position])

        found = self._checks.find(indices, params, given_grads, chosen, check)
        noise: list[NoiseKey | None] = [None] * len(params)
        if any(found.stochastic):
            noise = [
                NoiseKey(owner.options.sr_seed, owner.group["step"], index) if stochastic else None  # type: ignore[arg-type]
                for owner, index, stochastic in zip(owners, indices, found.stochastic, strict=True)
            ]

        def name(position: int) -> str:
            owner = owners[position]
            return label_of(owner.group["names"], indices[position] - owner.first, "params")

        return Plan(params, given_grads, groups, found, noise, name)

    def _check(self, owner: "_Owner", index: int, param: Any, grad: Any) -> CheckedRow:
        """Check a parameter and its gradient, or raise an error that names them."""
        options, position = owner.options, index - owner.first
        names = label_of(owner.group["names"], position, "params"), label_of(owner.group["names"], position, "grads")
        self._check_param(param, names[0])
        stochastic = options.rounds_stochastically(param)
        compute = checked_compute_dtype(param, grad, options.compute_dtype, stochastic=stochastic, names=names)
        kernel = self._kernel_of(param, grad, options, compute)
        return CheckedRow(compute, stochastic, kernel, array_span(param), array_span(grad))


class _Owner(NamedTuple):
    """The group of a parameter, its options, and the index of its first parameter."""

    group: Mapping[str, Any]
    options: Hyperparameters
    first: int
