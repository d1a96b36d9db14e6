"""An optimizer that binds a rule of `rose_core.peers` to the caller's arrays."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rose_arrays.groups import SCHEDULE, label_of, schedule_of
from rose_arrays.owned import OwnedArrays, array_span
from rose_core.hyperparameters import unsigned
from rose_core.namespace import dtype_name, require_array, require_like
from rose_core.noise import NoiseKey, noise_in_range
from rose_core.peers import Rule
from rose_core.peers.states import leaf_names, leaves
from rose_plan import differences, subnormals_kept, uninterrupted
from rose_plan.rule_steps import (
    GROUP_OPTIONS,
    GroupOptions,
    Step,
    options_of,
    step_in_place,
    with_copied_gradients,
    with_totals,
)

__all__ = ["RuleOptimizer"]


class RuleOptimizer(OwnedArrays):
    """A rule over arrays that the caller owns. A step takes their gradients and updates them in place.

    It is the base class of `rose_numpy.Optimizer` and `rose_cupy.Optimizer`.
    """

    _option_names = GROUP_OPTIONS

    def __init__(
        self,
        params: Any,
        rule: Rule,
        lr: float,
        *,
        weight_decay: float | None = None,
        weight_decay_method: str = "decoupled",
        maximize: bool = False,
        bf16_sr: bool = True,
        sr_seed: int = 0,
    ) -> None:
        self.defaults: dict[str, Any] = {
            "rule": rule,
            "lr": lr,
            "weight_decay": weight_decay,
            "weight_decay_method": weight_decay_method,
            "maximize": maximize,
            "bf16_sr": bf16_sr,
            "sr_seed": sr_seed,
        }
        GroupOptions(**self.defaults)
        self._states: dict[int, _State] = {}
        self._add_all(params)

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
            If the structure, an array or an option is not allowed. Nothing is changed then.
        """
        steps = self._planned(grads)
        with uninterrupted():
            for index, step in steps.items():
                step_in_place(step)
                self._states[index] = _State(step.at.step, step.state)

    @subnormals_kept
    def update_hessian(self, hessians: Any) -> None:
        """Update the states by estimates of the Hessian's diagonals, for the rule `SophiaH`.

        Parameters
        ----------
        hessians : mapping, iterable, or iterable of those
            The estimates, in the structure of the gradients. None skips a parameter.

        Raises
        ------
        TypeError, ValueError
            If a rule takes no Hessian, or an array is not allowed. Nothing is changed then.
        """
        states, first = {}, 0
        for number, (group, of_group) in enumerate(self._by_group(hessians)):
            options = options_of(group, number)
            for index, (param, hessian) in enumerate(zip(group["params"], of_group, strict=True), first):
                if hessian is not None:
                    name = label_of(group["names"], index - first, "params")
                    names = (name, f"the Hessian of {name}")
                    require_array(hessian, names[1])
                    require_like(param, hessian, names)
                    rule = options.rule.for_shape(param.shape)
                    step, arrays = self._states.get(index) or _State(0, rule.init_state(param))
                    new = rule.update_hessian(
                        hessian,
                        arrays,
                        step=step,
                        seed=options.sr_seed,
                        index=index,
                        bf16_sr=options.bf16_sr,
                    )
                    states[index] = _State(step, new)
            first += len(of_group)
        self._states.update(states)

    @subnormals_kept
    def evaluation_params(self) -> Any:
        """Return the parameters to evaluate the model with.

        A parameter of a schedule-free rule has a new array from its first step on. All others stand for themselves.

        Returns
        -------
        dict, list, or list of those
            A dict by name, or a list of parameters without names. With groups, a list with one of these for each.
        """
        structures: list[Any] = []
        first = 0
        for number, group in enumerate(self.param_groups):
            rule, arrays = options_of(group, number).rule, []
            for index, param in enumerate(group["params"], first):
                state = self._states.get(index)
                of_param = rule.for_shape(param.shape)
                arrays.append(param if state is None else of_param.evaluation_param(param, state.arrays))
            structures.append(arrays if group["names"] is None else dict(zip(group["names"], arrays, strict=True)))
            first += len(arrays)
        return structures if self._grouped else structures[0]

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a later run needs to continue bit for bit, besides the parameters.

        Returns
        -------
        dict
            "state" has the states by the position of the parameter. Each is a dict of "step", the number of steps,
            and of copies of the arrays by name. "param_groups" has the options in plain values, as for
            `torch.optim.Optimizer`; the rule is written as text.
        """
        groups, first = [], 0
        for number, group in enumerate(self.param_groups):
            params = {"params": list(range(first, first + len(group["params"])))}
            names = {} if group["names"] is None else {"param_names": list(group["names"])}
            groups.append({**params, **names, **_plain(options_of(group, number)), **schedule_of(group)})
            first += len(group["params"])
        states = {
            index: {"step": state.step, **{name: array.copy() for name, array in _named(state.arrays).items()}}
            for index, state in sorted(self._states.items())
        }
        return {"state": states, "param_groups": groups}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the options, schedules and states of another run of the same parameters. Arrays are copied.

        Parameters
        ----------
        state : mapping
            The return value of `state_dict`.

        Raises
        ------
        TypeError, ValueError
            If it does not fit these parameters, or is of another rule. Nothing is changed then.
        """
        if not isinstance(state, Mapping) or not {"state", "param_groups"} <= set(state):
            raise TypeError('state must be a mapping with "state" and "param_groups", as state_dict returns it')
        saved_groups = state["param_groups"]
        if len(saved_groups) != len(self.param_groups):
            raise ValueError(f"state has {len(saved_groups)} groups, this optimizer {len(self.param_groups)}")
        pairs = list(zip(self.param_groups, saved_groups, strict=True))
        groups = [_loaded_group(current, saved, number) for number, (current, saved) in enumerate(pairs)]
        places = [(group, position) for group in groups for position in range(len(group["params"]))]
        if unknown := [index for index in state["state"] if index not in range(len(places))]:
            raise ValueError(f"state has states of the parameters {unknown}; this optimizer has {len(places)}")
        states = {
            index: _loaded_state(group["rule"], group["params"][position], state["state"][index], index)
            for index, (group, position) in enumerate(places)
            if index in state["state"]
        }
        self.param_groups, self._states = groups, states

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for number, group in enumerate(self.param_groups):
            lines.append(f"  group {number}: {len(group['params'])} arrays")
            lines += [f"    {option}: {group[option]}" for option in GROUP_OPTIONS]
        return "\n".join([*lines, ")"])

    def _options_of_new_group(self, given: dict[str, Any]) -> dict[str, Any]:
        return vars(GroupOptions(**{**self.defaults, **given})).copy()

    def _add(self, group: Mapping[str, Any]) -> None:
        super()._add(group)
        added = self.param_groups[-1]
        try:
            for position, array in enumerate(added["params"]):
                rule = added["rule"].for_shape(array.shape)
                rule.check_param(array, label_of(added["names"], position, "params"))
        except BaseException:
            self.param_groups.pop()
            raise

    def _planned(self, grads: Any) -> dict[int, Step]:
        """Check the whole step, and return the step of each parameter. Nothing is changed."""
        steps: dict[int, Step] = {}
        rules, first = [], 0
        for number, (group, grads_of_group) in enumerate(self._by_group(grads)):
            options = options_of(group, number)
            for position, grad in enumerate(grads_of_group):
                if grad is not None:
                    names = [label_of(group["names"], position, of) for of in ("params", "grads")]
                    index = first + position
                    steps[index] = self._planned_step(index, group["params"][position], grad, options, names)
                    rules.append(options.rule)
            first += len(grads_of_group)
        planned = with_copied_gradients(list(steps.values()), self._addresses_of, array_span)
        return dict(zip(steps, with_totals(planned, rules), strict=True))

    def _planned_step(self, index: int, param: Any, grad: Any, options: GroupOptions, names: Sequence[str]) -> Step:
        self._check_param(param, names[0])
        rule = options.rule.for_shape(param.shape)
        rule.checked_compute_dtype(param, grad, (names[0], names[1]))
        state = self._states.get(index) or _State(0, rule.init_state(param))
        at = options.at(state.step + 1, index, param, rule)
        noise = _noise_of(at.key, param) if options.bf16_sr else None
        return Step(rule, param, grad, state.arrays, at, options.application(rule), noise)


class _State(NamedTuple):
    """The number of steps of a parameter, and the arrays of its state."""

    step: int
    arrays: Any


def _plain(options: GroupOptions) -> dict[str, Any]:
    return {**vars(options), "rule": repr(options.rule)}


def _named(arrays: Any) -> dict[str, Any]:
    """Return the arrays of a state by name."""
    pairs = zip(leaf_names(arrays), leaves(arrays), strict=True)
    return {name: leaf for name, leaf in pairs if leaf is not None}


def _noise_of(key: NoiseKey, param: Any) -> Callable[[int, int, int], Any]:
    return lambda first, start, stop: noise_in_range(key, first + start, first + stop, like=param)


def _loaded_group(current: dict[str, Any], saved: Any, number: int) -> dict[str, Any]:
    """Return the group of a state, with the arrays and the rule of the optimizer's group `current`."""
    label = f'state["param_groups"][{number}]'
    if not isinstance(saved, Mapping):
        raise TypeError(f"{label} must be a mapping, got {type(saved).__name__}")
    required = {"params", *GROUP_OPTIONS}
    missing = sorted(required - set(saved))
    unknown = sorted(set(saved) - required - set(SCHEDULE) - {"param_names"})
    if text := differences({"lacks the keys": missing, "has the unknown keys": unknown}):
        raise ValueError(f"{label} {text}")
    if saved.get("param_names") != current["names"] or len(saved["params"]) != len(current["params"]):
        raise ValueError(
            f"{label} is of {len(saved['params'])} parameters named {saved.get('param_names')}, "
            f"this optimizer's of {len(current['params'])} named {current['names']}"
        )
    if saved["rule"] != repr(current["rule"]):
        raise ValueError(f"{label} is of the rule {saved['rule']}, this optimizer's of {current['rule']!r}")
    options = GroupOptions(**{**{option: saved[option] for option in GROUP_OPTIONS}, "rule": current["rule"]})
    kept = {key: current[key] for key in ("params", "names", "source")}
    return {**kept, **vars(options), **schedule_of(saved)}


def _loaded_state(rule: Rule, param: Any, saved: Any, index: int) -> _State:
    """Return the state of a parameter, with copies of the saved arrays."""
    label = f'state["state"][{index}]'
    if not isinstance(saved, Mapping):
        raise TypeError(f"{label} must be a mapping, got {type(saved).__name__}")
    arrays = rule.for_shape(param.shape).init_state(param)
    expected = _named(arrays)
    missing, unknown = sorted({"step", *expected} - set(saved)), sorted(set(saved) - {"step", *expected})
    if text := differences({"lacks the keys": missing, "has the unknown keys": unknown}):
        raise ValueError(f"{label} {text}")
    for name, array in expected.items():
        given, names = saved[name], (f"the state of {rule!r}", f"{label}[{name!r}]")
        require_array(given, names[1])
        require_like(array, given, names)
        if dtype_name(given) != dtype_name(array):
            raise ValueError(f"{names[1]} has dtype {dtype_name(given)}, {names[0]} has {dtype_name(array)}")
        array[...] = given
    return _State(unsigned("step", saved["step"], bits=32), arrays)
