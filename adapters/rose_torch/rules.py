"""The PyTorch optimizer of the rules of `rose_core.peers`."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from rose_core.namespace import floating_dtype
from rose_core.noise import NoiseKey, noise_in_range
from rose_core.peers import Rule
from rose_core.peers.base import STATE_NOISE
from rose_plan import uninterrupted, warn_of_misspelt_options
from rose_plan.rule_steps import (
    GROUP_OPTIONS,
    GroupOptions,
    NoiseAt,
    Step,
    options_of,
    step_in_place,
    with_copied_gradients,
    with_totals,
)
from rose_torch.distributed import any_dtensors, is_dtensor
from rose_torch.graph import evaluated, not_traced
from rose_torch.memory import addresses_of
from rose_torch.openmp import subnormals_kept_in_threads
from rose_torch.options import param_name
from rose_torch.rule_states import as_dtensor, loaded_state, local_arrays, local_tensor, new_state, state_of
from rose_torch.state import after_pre_hooks
from rose_torch.validation import require_in_place, require_own_shape, tensor_span

if TYPE_CHECKING:
    from rose_torch.distributed.shards import Shard

__all__ = ["Optimizer"]

_CAPTURING: Final = (
    "Optimizer.step() cannot be captured in a CUDA graph, which would repeat its lr, step and noise at each replay; "
    "capture forward and backward, and call step() outside"
)


class Optimizer(torch.optim.Optimizer):
    """A rule of `rose_core.peers` as an optimizer of torch.

    Parameters
    ----------
    params : iterable of Tensor, of (str, Tensor), or of dict
        Parameters or parameter groups, as for every `torch.optim.Optimizer`. A group may override every option, the
        rule included. DTensors need an elementwise rule.
    rule : rose_core.peers.Rule
        The rule, such as ``AdamW(betas=(0.9, 0.95))``.
    lr : float or Tensor
        Learning rate, a finite number >= 0. A tensor of rank 0 is read at every step.
    weight_decay, weight_decay_method, maximize, bf16_sr, sr_seed
        As in `rose_plan.rule_steps.GroupOptions`.

    Raises
    ------
    TypeError, ValueError
        If an option or a parameter is not allowed; the message names it.

    Notes
    -----
    The state of a parameter is a dict of "step", an integer, and of tensors by name. A state dict holds the rule as
    text, and loads into an optimizer with the same rule only. States keep their dtype when they are loaded.
    `OneCycleLR` needs ``cycle_momentum=False``.

    With DTensors, each rank steps on its own shards. A gradient is all-reduced only if backward left it Partial. An
    error on one rank does not stop the other ranks.

    Examples
    --------
    >>> import torch
    >>> from rose_core.peers import Lion
    >>> weight = torch.nn.Parameter(torch.ones(2))
    >>> optimizer = Optimizer([weight], Lion(), lr=0.25, weight_decay=0.0)
    >>> weight.grad = torch.tensor([3.0, -2.0])
    >>> optimizer.step()
    >>> weight.tolist()
    [0.75, 1.25]
    """

    def __init__(
        self,
        params: Iterable[Any],
        rule: Rule,
        lr: float | Tensor,
        *,
        weight_decay: float | None = None,
        weight_decay_method: str = "decoupled",
        maximize: bool = False,
        bf16_sr: bool = True,
        sr_seed: int = 0,
    ) -> None:
        defaults = {
            "rule": rule,
            "lr": lr,
            "weight_decay": weight_decay,
            "weight_decay_method": weight_decay_method,
            "maximize": maximize,
            "bf16_sr": bf16_sr,
            "sr_seed": sr_seed,
        }
        options_of(defaults, 0)
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, with options that override those given to the constructor.

        Parameters
        ----------
        param_group : dict
            "params" and the options of the group. It is not changed.

        Raises
        ------
        TypeError, ValueError
            If an option or a parameter is not allowed. Nothing is changed then.

        Warns
        -----
        UserWarning
            If an entry has nearly the name of an option. Entries of other names are allowed.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, got {type(param_group).__name__}")
        number = len(self.param_groups)
        options = options_of({**self.defaults, **param_group}, number)
        try:
            super().add_param_group(dict(param_group))
            group = self.param_groups[number]
            for position, param in enumerate(group["params"]):
                if is_lazy(param):
                    continue  # it has no shape before the first forward
                name = param_name(group, number, position)
                require_own_shape(param, name, "the shape that a rule needs")
                options.rule.for_shape(tuple(param.shape)).check_param(param, name)
            warn_of_misspelt_options(param_group, number, GROUP_OPTIONS)
        except BaseException:
            del self.param_groups[number:]
            raise

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Parameters
        ----------
        closure : callable, optional
            Evaluates the model again and returns the loss.

        Returns
        -------
        The value of `closure`, None without one.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            If an option, a parameter or a gradient is not allowed. Nothing is changed then.
        """
        loss = evaluated(closure)
        _apply_not_traced(self)
        return loss

    @torch.no_grad()
    @subnormals_kept_in_threads
    def update_hessian(self, hessians: Iterable[Tensor | None]) -> None:
        """Update the states by estimates of the Hessian's diagonals, for the rule `SophiaH`.

        Parameters
        ----------
        hessians : iterable of Tensor or None
            One estimate for each parameter, in the order of the groups. None skips a parameter. A DTensor needs a
            DTensor with the same sharding, or a Partial one.

        Raises
        ------
        TypeError, ValueError
            If a rule takes no Hessian, or a tensor is not allowed. Nothing is changed then.
        """
        listed, states, index = list(hessians), {}, 0
        if len(listed) != (count := sum(len(group["params"]) for group in self.param_groups)):
            raise ValueError(f"hessians has {len(listed)} tensors for {count} parameters")
        for number, group in enumerate(self.param_groups):
            options = options_of(group, number)
            for position, param in enumerate(group["params"]):
                if (hessian := listed[index]) is not None:
                    name = param_name(group, number, position)
                    states[param] = self._with_hessian(param, hessian, options, index, name)
                index += 1
        self.state.update(states)

    @torch.no_grad()
    @subnormals_kept_in_threads
    def evaluation_params(self) -> list[list[Tensor]]:
        """Return the parameters to evaluate the model with, a list for each group.

        A parameter of a schedule-free rule has a new tensor from its first step on. All others stand for themselves.
        """
        return [[self._evaluation_param(group, param) for param in group["params"]] for group in self.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return the options, the schedules and the states, as for every `torch.optim.Optimizer`.

        The rule of a group is written as text. The optimizer still holds the tensors, and overwrites them.
        """
        hooks, self._optimizer_state_dict_post_hooks = self._optimizer_state_dict_post_hooks, OrderedDict()
        try:
            state = super().state_dict()
        finally:
            self._optimizer_state_dict_post_hooks = hooks
        state["param_groups"] = [{**group, "rule": repr(group["rule"])} for group in state["param_groups"]]
        for hook in hooks.values():  # they run last, on plain values
            changed = hook(self, state)
            state = state if changed is None else changed
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the options, schedules and states of another run of the same parameters. Tensors are copied.

        Parameters
        ----------
        state_dict : dict
            The return value of `state_dict`.

        Raises
        ------
        TypeError, ValueError
            If it does not fit these parameters, or is of another rule. Nothing is changed then.
        """
        with after_pre_hooks(self, state_dict) as state:
            # torch would cast the states to the dtype of the parameter, so they are held back.
            held = {index: _Held(of_param) for index, of_param in state["state"].items()}
            super().load_state_dict({**state, "state": held})

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a state that is loaded, unpickled or copied, or raise before anything is changed."""
        if "defaults" not in state:  # loaded
            state = self._checked_state(state)
        super().__setstate__(state)

    def _checked_state(self, state: dict[str, Any]) -> dict[str, Any]:
        groups, states = [], {}
        for number, (current, saved) in enumerate(zip(self.param_groups, state["param_groups"], strict=True)):
            if missing := [option for option in GROUP_OPTIONS if option not in saved]:
                raise ValueError(f"param group {number} of the state lacks {', '.join(missing)}")
            if saved["rule"] not in (repr(current["rule"]), current["rule"]):
                raise ValueError(
                    f"param group {number} of the state is of the rule {saved['rule']}, "
                    f"this optimizer's of {current['rule']!r}"
                )
            group = {**saved, "rule": current["rule"]}
            options_of(group, number)
            groups.append(group)
            for position, param in enumerate(group["params"]):
                held = state["state"].get(param)
                if held is not None:
                    name = f"the state of {param_name(group, number, position)}"
                    states[param] = loaded_state(group["rule"], param, held.value, name)
        return {**state, "state": type(self.state)(dict, states), "param_groups": groups}

    @subnormals_kept_in_threads
    def _apply(self) -> None:
        """Run the whole step, or raise before anything is changed."""
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            raise RuntimeError(_CAPTURING)
        planned = self._planned()
        with uninterrupted():
            for param, state, step in planned:
                step_in_place(step)
                state["step"] = step.at.step
                self.state[param] = state
            # The step wrote local tensors; autograd counts the versions of the DTensors.
            torch.autograd.graph.increment_version([param for param, _, _ in planned if is_dtensor(param)])

    def _planned(self) -> list[tuple[Tensor, dict[str, Any], Step]]:
        """Check the whole step, and return each parameter with its state and its step. Nothing is changed."""
        params, states, steps, rules, index = [], [], [], [], 0
        for number, group in enumerate(self.param_groups):
            options = options_of(group, number)
            for position, param in enumerate(group["params"]):
                if param.grad is not None:
                    name = param_name(group, number, position)
                    state, step = self._planned_step(param, param.grad, options, index, name)
                    params.append(param)
                    states.append(state)
                    steps.append(step)
                    rules.append(options.rule)
                index += 1
        steps = with_totals(with_copied_gradients(steps, addresses_of, tensor_span), rules)
        return list(zip(params, states, steps, strict=True))

    def _planned_step(
        self, param: Tensor, grad: Tensor, options: GroupOptions, index: int, name: str
    ) -> tuple[dict[str, Any], Step]:
        """Check the step of one parameter, and return its state, new if there is none, and the step."""
        require_own_shape(param, name, "the shape that a rule needs")
        rule = options.rule.for_shape(tuple(param.shape))
        local, local_grad, shard = _local_of(rule, param, grad, name)
        require_in_place(local, local_grad, name)
        rule.checked_compute_dtype(local, local_grad, (name, f"the gradient of {name}"))
        state = self.state[param] if self.state.get(param) else new_state(rule, param)
        arrays = local_arrays(rule, param, state)
        at = options.at(state["step"] + 1, index, param, rule)
        noise = _noise_at(at.key, local, shard) if options.bf16_sr else None
        step = Step(rule, local.detach(), local_grad.detach(), arrays, at, options.application(rule), noise)
        return dict(state), step

    def _with_hessian(
        self, param: Tensor, hessian: Tensor, options: GroupOptions, index: int, name: str
    ) -> dict[str, Any]:
        """Return the state of one parameter after an estimate."""
        floating_dtype(hessian, "hessian")
        rule = options.rule.for_shape(tuple(param.shape))
        local, estimate, shard = _local_of(rule, param, hessian, name, "Hessian")
        state = self.state[param] if self.state.get(param) else new_state(rule, param)
        words = _noise_at(NoiseKey(int(options.sr_seed), state["step"], index), local, shard)

        def noise(number_of_state: int, x: Any) -> Any:
            return words((number_of_state + 1) * STATE_NOISE, 0, x.numel()).reshape(x.shape)

        arrays = local_arrays(rule, param, state)
        new = rule.with_hessian(estimate, arrays, noise if options.bf16_sr else None)
        return state_of(rule, param, state["step"], new)

    def _evaluation_param(self, group: Mapping[str, Any], param: Tensor) -> Tensor:
        rule, state = group["rule"].for_shape(tuple(param.shape)), self.state.get(param)
        if not state:
            return param
        local = local_tensor(param)
        evaluated: Tensor = rule.evaluated(local, local_arrays(rule, param, state))
        if evaluated is local:
            return param
        return as_dtensor(evaluated, param) if is_dtensor(param) else evaluated


_apply_not_traced: Final = not_traced(Optimizer._apply)  # a compiler would make constants of the numbers of a step


class _Held:
    """A value that torch does not look into when it loads a state."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _local_of(
    rule: Rule, param: Tensor, grad: Tensor, name: str, kind: str = "gradient"
) -> tuple[Tensor, Tensor, "Shard | None"]:
    """Return the local tensors of a parameter and of its gradient, which is reduced, and the shard of a DTensor."""
    if not any_dtensors([param, grad]):
        return param, grad, None
    if not rule.is_elementwise:
        raise TypeError(
            f"{name} is a DTensor, and the rule {type(rule).__name__} is not elementwise; "
            "DTensors need an elementwise rule"
        )
    from rose_torch.distributed.shards import local_shards  # noqa: PLC0415  (it is slow to load)

    (local,), (local_grad,), shards = local_shards([param], [grad], lambda _: name, kind)
    shard = shards.get(0)
    return local, local_grad if shard is None or shard.reduce is None else shard.reduce(), shard


def _noise_at(key: NoiseKey, local: Tensor, shard: "Shard | None") -> NoiseAt:
    return partial(_noise_of if shard is None else shard.noise_words, key, local)


def _noise_of(key: NoiseKey, param: Tensor, first: int, start: int, stop: int) -> Any:
    return noise_in_range(key, first + start, first + stop, like=param)
