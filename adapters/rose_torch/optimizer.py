"""The PyTorch optimizer."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import accumulate, chain
from operator import is_
from typing import Any, Final

import torch
from torch import Tensor

from rose_core.decay import after_step
from rose_kernels import Kernels, resolve_fused
from rose_plan import (
    CheckCache,
    StepWarnings,
    checked_nonfinite,
    require_no_option,
    skips_step,
    uninterrupted,
    warn_of_misspelt_options,
    warn_user,
)
from rose_torch.distributed import any_dtensors, is_dtensor
from rose_torch.graph import Gradients, evaluated, not_traced, number_of, step_in_graph
from rose_torch.noise import DrawnNoise
from rose_torch.openmp import subnormals_kept_in_threads
from rose_torch.options import (
    OPTIONS,
    StepGroup,
    param_name,
    plain_options,
    require_unset,
    step_group,
    warn_of_groups,
)
from rose_torch.plan import Given, SkippedStep, TorchPlan, given_of_group, plan_step
from rose_torch.state import after_pre_hooks, pack_generators, restored_groups, saved_groups, set_states
from rose_torch.step import prepare_run
from rose_torch.validation import as_numpy, is_plain, properties_of, require_own_shape

__all__ = ["Rose"]

_CAPTURING: Final = (
    "Rose.step() cannot be captured in a CUDA graph, which would repeat its lr, decay and noise at each replay; "
    "capture forward and backward, and call step() outside"
)
_NOISE_PER_RANK: Final = (
    "bf16_sr draws rounding noise from each rank's own generator: unless all are seeded alike, "
    "replicas of a parameter drift apart; sr_seed=0 gives every rank the same noise"
)


class Rose(torch.optim.Optimizer):
    """Rose (Range-Of-Slice Equilibration, by Matthew E. Kieren), a drop-in for `rose_opt.Rose`.

    Parameters
    ----------
    params : iterable of Tensor, of (str, Tensor), or of dict
        Parameters or parameter groups, as for every `torch.optim.Optimizer`: dense tensors or DTensors of
        float64, float32, float16 or bfloat16. A group may override every option.
    lr : float or Tensor
        Learning rate, a finite number >= 0. A tensor of one element is read at every step; on the CPU this does not
        synchronize.
    weight_decay, wd_schedule, centralize, stabilize, compute_dtype, maximize, max_step
        As in `rose_core.Hyperparameters`.
    bf16_sr : bool or torch.Generator
        Whether bfloat16 parameters are rounded stochastically. A generator, on their device, is the source of the
        noise, in place of torch's default generator.
    sr_seed : int or None
        An integer in [0, 2**64) selects the portable noise. It is the same in every library, on every device and in
        every memory format, and continues in a resumed run. None draws from a generator: for contiguous parameters
        the same words as `rose_opt.Rose`. A flattened distributed checkpoint does not hold the state of a generator
        given as `bf16_sr`.
    nonfinite : str
        What a step with an infinity or a NaN in a gradient does: "propagate" takes the rule as it is; "skip" leaves the
        whole step out, decay and step count included, and adds 1 to `skipped_steps`; "raise" raises. With DTensors, a
        bad gradient on one rank skips the step on all ranks, or raises on all. "skip" and "raise" wait for a GPU.
    fused : bool or None
        Whether compiled kernels update dense parameters on the CPU, with as many threads as torch uses. They need
        Numba, and change no bit. True waits for them at the first step; None uses them once they are compiled. The core
        updates shards of DTensors.
    foreach, capturable, differentiable : bool or None
        Options of other optimizers of torch, for code that passes them to all. True is refused.

    Raises
    ------
    TypeError, ValueError
        If an option is not allowed; the message names it.
    RuntimeError
        If `fused` is True and there are no kernels.

    Warns
    -----
    UserWarning
        If an entry of a group has nearly the name of an option. Entries of other names are allowed. If centering
        removes the whole gradient of a parameter. If `wd_schedule` and `weight_decay` shrink a parameter by more than
        1e-3 of itself at a step. If the ranks of a distributed run draw different noise.

    See Also
    --------
    rose_torch.upstream_state_dict : a state dict for `rose_opt.Rose`. Its state dicts load without conversion.

    Notes
    -----
    `spec/SPEC.md` specifies a step, `rose_core` computes it, and the kernels return the same bits. With
    ``wd_schedule=True`` the default `weight_decay` decays 1 / lr times more per step than without.
    `OneCycleLR` needs ``cycle_momentum=False``.

    Examples
    --------
    >>> import torch
    >>> weight = torch.nn.Parameter(torch.ones(2, 2))
    >>> optimizer = Rose([weight], lr=0.5, weight_decay=0.0)
    >>> weight.grad = torch.tensor([[1.0, 3.0], [2.0, 4.0]])
    >>> optimizer.step()
    >>> weight.tolist()
    [[1.25, 0.75], [1.25, 0.75]]
    """

    _constructing = False
    _warned_of_noise_per_rank = False
    _nonfinite = "propagate"
    skipped_steps = 0
    _params_of_groups: Sequence[list[Tensor]] = ()
    _has_dtensors = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor,
        *,
        weight_decay: float | None = 1e-4,
        wd_schedule: bool | float = False,
        centralize: bool = True,
        stabilize: bool = True,
        bf16_sr: bool | torch.Generator = True,
        compute_dtype: Any = "fp64",
        maximize: bool = False,
        sr_seed: int | None = None,
        max_step: float | None = None,
        nonfinite: str = "propagate",
        fused: bool | None = None,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        require_unset({"foreach": foreach, "capturable": capturable, "differentiable": differentiable})
        self._use_kernels(resolve_fused(fused))
        self._nonfinite, self.skipped_steps = checked_nonfinite(nonfinite), 0
        given = {
            "lr": lr,
            "weight_decay": weight_decay,
            "wd_schedule": wd_schedule,
            "centralize": centralize,
            "stabilize": stabilize,
            "bf16_sr": bf16_sr,
            "compute_dtype": compute_dtype,
            "maximize": maximize,
            "sr_seed": sr_seed,
            "max_step": max_step,
        }
        self._constructing = True
        super().__init__(params, plain_options(given))
        self._constructing = False
        warn_of_groups(self.param_groups, 0)

    def __repr__(self) -> str:
        return f"{super().__repr__().removesuffix(')')}nonfinite: {self._nonfinite}\nfused: {self._fused}\n)"

    def __setattr__(self, name: str, value: Any) -> None:
        require_no_option(name, OPTIONS, ("nonfinite", "fused"))
        super().__setattr__(name, value)

    def _use_kernels(self, fused: bool | None) -> None:
        """Run updates by kernels, by the core, or by what is ready (None). Nothing set here is copied or pickled."""
        self._fused, self._checks, self._kernels = fused, CheckCache(properties_of), Kernels()
        self._warnings = StepWarnings()
        self._number, self._apply_after_graph = number_of(self), not_traced(type(self)._apply)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, with options that override those given to the constructor.

        Parameters
        ----------
        param_group : dict
            "params" and the options of the group. It is not changed.

        Raises
        ------
        TypeError, ValueError
            If an option is not allowed, a parameter is in a group already, or it is held flattened by FSDP1 or ZeRO.

        Warns
        -----
        UserWarning
            As for the constructor.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, got {type(param_group).__name__}")
        require_unset(param_group)
        resolve_fused(param_group.get("fused"))
        if "nonfinite" in param_group:
            raise TypeError("nonfinite is an option of the optimizer, for a whole step; a param group cannot have it")
        options, number = plain_options({**self.defaults, **param_group}), len(self.param_groups)
        try:
            super().add_param_group({**param_group, **options, "step": 0})
            group = self.param_groups[number]
            for position, param in enumerate(group["params"]):
                self._require_param(param, param_name(group, number, position))
            warn_of_misspelt_options(param_group, number, OPTIONS)
            if not self._constructing:
                warn_of_groups(self.param_groups, number)
        except BaseException:
            del self.param_groups[number:]
            raise
        self._list_params()

    def _require_param(self, param: Tensor, name: str) -> None:
        """Raise if a parameter cannot be in a group."""
        require_own_shape(param, name)

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
            If an option, a parameter or a gradient is not allowed. No parameter is changed then (ROSE-11.3), on this
            rank or on another rank with shards of the same DTensors. The other ranks raise a RuntimeError.
        FloatingPointError
            If a gradient has an infinity or a NaN, with ``nonfinite="raise"``. No parameter is changed then. Other
            ranks with shards of the same DTensors raise a RuntimeError.

        Warns
        -----
        UserWarning
            If a decay has grown with `lr` beyond 1e-3 a step. If an element moves by more than 1,000 times `lr` at step
            1, 10, 100 and so on, and `max_step` is None. Gradients on GPUs and of sharded DTensors are not read for it.

        Notes
        -----
        With DTensors, all ranks of the mesh must call `step`, with the same DTensors in the same order. They all-reduce
        extrema and fold sums (ROSE-7.4), batched over all parameters. A gradient is all-reduced only if backward left
        it Partial. Parameters that are offloaded to the CPU need a process group with a backend for the CPU, such as
        ``init_process_group("cpu:gloo,cuda:nccl")``.
        """
        loss = evaluated(closure)
        if torch.compiler.is_compiling():
            self._apply_in_graph()
        else:
            self._apply()
        return loss

    def _apply_in_graph(self) -> None:
        """Add the step to the graph that is being compiled. With DTensors, end the graph instead."""
        if self._has_dtensors:
            self._apply_after_graph(self)
        else:
            step_in_graph(self._number, self._params_of_groups)

    @subnormals_kept_in_threads
    def _apply(self, gradients: Gradients | None = None) -> None:
        """Run the whole step, or raise before anything is changed."""
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            raise RuntimeError(_CAPTURING)
        if gradients is not None:
            self._require_groups_of_graph()
        params = list(chain.from_iterable(group["params"] for group in self.param_groups))
        dtensors = list(filter(is_dtensor, params)) if any_dtensors(params) else []
        prepare = partial(self._prepare, gradients)
        if dtensors:
            from rose_torch.distributed.consensus import plan_on_all_ranks  # noqa: PLC0415  (it is slow to load)

            prepare = partial(plan_on_all_ranks, prepare, self.param_groups, param_name)
        try:
            plan, afterwards = prepare()
        except SkippedStep:
            self.skipped_steps += 1
            return
        write = prepare_run(plan, self._kernels)
        with uninterrupted():
            write()
            # The step wrote the local tensors; autograd counts the versions of the DTensors.
            torch.autograd.graph.increment_version([param for param in dtensors if param.grad is not None])
            for group, entries in zip(self.param_groups, afterwards, strict=True):
                group.update(entries)

    def state_dict(self) -> dict[str, Any]:
        """Return the options and schedules, the step counts, and the states of generators, in plain values.

        Returns
        -------
        dict
            As for every `torch.optim.Optimizer`. JSON can hold it, unless `lr` is a tensor. A `max_step` of infinity is
            `Infinity` in Python's `json`, which strict parsers refuse.
        """
        hooks = self._optimizer_state_dict_post_hooks
        self._optimizer_state_dict_post_hooks = OrderedDict()  # they run last, on plain values
        try:
            state = super().state_dict()
        finally:
            self._optimizer_state_dict_post_hooks = hooks
        state = {**state, "param_groups": saved_groups(state["param_groups"])}
        for hook in list(hooks.values()):
            changed = hook(self, state)
            state = state if changed is None else changed
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the options, schedules, step counts and states of generators of another run of the same parameters.

        Parameters
        ----------
        state_dict : dict
            What `state_dict` returned, here or in `rose_opt.Rose`.

        Raises
        ------
        TypeError, ValueError
            If it does not fit these parameters, or lacks an option. Nothing is changed then.
        """
        with after_pre_hooks(self, state_dict) as state:
            super().load_state_dict(state)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        defaults, *groups = pack_generators([self.defaults, *self.param_groups])
        kept = {"_fused": self._fused, "_nonfinite": self._nonfinite, "skipped_steps": self.skipped_steps}
        return {**state, "defaults": defaults, "param_groups": groups, **kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a state that is loaded, unpickled or copied, or raise before anything is changed."""
        current = self.__dict__.get("param_groups")
        groups, generator_states = restored_groups(current, state["param_groups"], state.get("defaults"))
        set_states(generator_states)
        if "defaults" in state:  # unpickled or copied
            state = {**state, "defaults": groups.pop()}
            fused = state.pop("_fused", None)
            # An optimizer that demands kernels may be restored where there are none.
            self._use_kernels(False if resolve_fused(None) is False else fused)
        super().__setstate__({**state, "param_groups": groups})
        self._list_params()

    def _list_params(self) -> None:
        """Keep the lists of parameters apart from the options, because a compiler makes constants of what it reads."""
        params = [group["params"] for group in self.param_groups]
        if len(params) == len(self._params_of_groups) and all(map(is_, params, self._params_of_groups)):
            return
        self._params_of_groups = params
        self._has_dtensors = any(map(is_dtensor, chain(*self._params_of_groups)))

    def _require_groups_of_graph(self) -> None:
        """Raise if the groups do not hold the lists of parameters that the graph was compiled for."""
        if list(map(id, self._params_of_groups)) != [id(group["params"]) for group in self.param_groups]:
            raise RuntimeError(
                "param_groups were changed by hand, which a compiled step does not see; allowed are add_param_group, "
                "load_state_dict and new options of a group"
            )

    def _prepare(self, gradients: Gradients | None) -> tuple[TorchPlan, list[dict[str, Any]]]:
        """Return the plan of a step, and the entries of the groups that it changes. Nothing is changed yet.

        `gradients` holds the parameters that have one, each with its gradient, by index. None reads `param.grad`.
        """
        if gradients is None:
            self._list_params()
        groups = self._step_groups()
        plan = self._plan([given_of_group(group, gradients) for group in groups])
        if self._skips(plan):
            raise SkippedStep
        afterwards = [after_step(group, float(group["lr"])) for group in self.param_groups]
        self._warn_of(plan, groups)
        return plan, afterwards

    def _step_groups(self) -> list[StepGroup]:
        """Return the groups with their options, checked for one step."""
        firsts = accumulate((len(group["params"]) for group in self.param_groups), initial=0)
        numbered = enumerate(zip(self.param_groups, firsts, strict=False))
        return [step_group(group, number, first, fused=self._fused) for number, (group, first) in numbered]

    def _plan(self, given: Sequence[Given]) -> TorchPlan:
        """Check parameters and their gradients, and return the plan of their updates."""
        plan = plan_step(given, self._checks).with_ready_kernels(self._kernels)
        if DrawnNoise in set(map(type, plan.noise)):
            self._warn_of_noise_per_rank()
        return plan

    def _skips(self, plan: TorchPlan) -> bool:
        """Return whether the option `nonfinite` leaves a planned step out, or raise if it cannot be told."""
        if self._nonfinite == "propagate":
            return False
        if plan.is_traced:
            raise RuntimeError(
                f"nonfinite={self._nonfinite!r} reads the gradients, which have no values where torch traces or "
                "transforms a step; allowed is 'propagate'"
            )
        for position, shard in plan.shards.items():
            if shard.reduce is not None:
                raise ValueError(
                    f"the gradient of {plan.name(position)} is Partial, and nonfinite={self._nonfinite!r} reads "
                    "gradients before they are reduced; redistribute it first, or pass 'propagate'"
                )
        grads = [as_numpy(grad) if is_plain(grad) else grad for grad in plan.grads]
        return skips_step(self._nonfinite, grads, plan.name)

    def _warn_of(self, plan: TorchPlan, groups: Sequence[StepGroup]) -> None:
        """Warn about a planned step, unless torch traces it: then it has no values."""
        if not plan.is_traced:
            self._warnings.check(plan, [(group.number, group.entries) for group in groups], plan.whole_gradient)

    def _warn_of_noise_per_rank(self) -> None:
        """Warn once if each rank of a distributed run draws its own noise, so that replicas drift apart."""
        if self._warned_of_noise_per_rank or not torch.distributed.is_available():
            return
        if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
            self._warned_of_noise_per_rank = True
            warn_user(_NOISE_PER_RANK)
