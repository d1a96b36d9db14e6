"""The PyTorch optimizer."""

import functools
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, chain
from typing import Any, Final

import torch
from torch import Tensor

from rose_core import Hyperparameters
from rose_core.decay import after_step, scheduled_decay_factor, warnings_of_decay
from rose_core.hyperparameters import unsigned
from rose_core.statistics import stays_in_place, warning_of_slices
from rose_kernels import Kernels, resolve_fused
from rose_torch.checks import Checks, Given, require_own_shape
from rose_torch.compiled import Gradients, not_traced, number_of, step_in_graph
from rose_torch.generators import pack_generators, set_states, unpack_generators
from rose_torch.options import OPTIONS, generator_of, hyperparameters, plain_options
from rose_torch.placement import any_dtensors, is_dtensor, is_elsewhere
from rose_torch.steps import run_updates
from rose_torch.updates import DrawnNoise, PortableNoise, Updates

__all__ = ["Rose"]

# Keys of a group that upstream's state dicts lack, with what their absence means.
_NOT_UPSTREAM: Final = {"maximize": False, "sr_seed": None, "step": 0}

_NO_REFERENCE: Final = (
    "param group {number} of the state has wd_schedule=True and steps behind it, but no initial_lr, to which its decay "
    "refers: a flattened checkpoint has one only if the optimizer that it is loaded into has it, by a scheduler or as "
    "group['initial_lr'] = lr"
)
_CAPTURING: Final = (
    "Rose.step() cannot be captured in a CUDA graph, which would repeat its lr, decay and noise at each replay; "
    "capture forward and backward, and call step() outside"
)


class Rose(torch.optim.Optimizer):
    """Rose (Range-Of-Slice Equilibration, by Matthew E. Kieren), a drop-in for `rose_opt.Rose`.

    Parameters
    ----------
    params : iterable of Tensor, of (str, Tensor), or of dict
        Parameters or parameter groups, as for every `torch.optim.Optimizer`: dense tensors or DTensors of
        float64, float32, float16 or bfloat16. A group may override every option.
    lr : float or Tensor
        Learning rate, a finite number >= 0; a tensor of rank 0 is read at every step, which waits for nothing
        where it is on the CPU.
    weight_decay, wd_schedule, centralize, stabilize, compute_dtype, maximize
        As in `rose_core.Hyperparameters`.
    bf16_sr : bool or torch.Generator
        Whether bfloat16 parameters are rounded stochastically; a generator, on their device, is the
        source of the noise, in place of torch's default generator.
    sr_seed : int or None
        An integer in [0, 2**64) selects the portable noise, which is the same on every library, device
        and memory format, and continues in a resumed run. None draws from a generator, the very words
        that `rose_opt.Rose` draws for contiguous parameters; a flattened distributed checkpoint does not
        hold the state of a generator given as `bf16_sr`.
    fused : bool or None
        Whether compiled kernels update dense parameters on the CPU, in as many threads as torch uses; None is
        whether they are there. They need Numba, and change no bit. Shards of DTensors go through the core.

    Raises
    ------
    TypeError, ValueError
        If an option is not allowed; the message names it.
    RuntimeError
        If `fused` is True and there are no kernels.

    Warns
    -----
    UserWarning
        Where centering leaves nothing of a parameter's gradient, where `wd_schedule` and `weight_decay` take more
        than 1e-3 of a parameter away at a step, and where ranks of a distributed run draw noise of their own.

    See Also
    --------
    rose_torch.upstream_state_dict : a state dict for `rose_opt.Rose`; loading one of its needs no help.

    Notes
    -----
    `spec/SPEC.md` says what a step computes, `rose_core` computes it, and the kernels have its bits. With
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
    # From who warns of the groups up to who calls the constructor.
    _frames_of_construction = 3
    _warned_of_noise_per_rank = False

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
        fused: bool | None = None,
    ) -> None:
        self._use_kernels(resolve_fused(fused))
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
        }
        self._constructing = True
        super().__init__(params, plain_options(given))
        self._constructing = False
        _warn_of_groups(self.param_groups, 0, self._frames_of_construction)

    def _use_kernels(self, fused: bool) -> None:
        """Update by kernels, or without; nothing of them is copied or pickled."""
        self._fused, self._checks, self._kernels = fused, Checks(fused=fused), Kernels()
        self._number, self._apply_after_graph = number_of(self), not_traced(self._apply)

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
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, got {type(param_group).__name__}")
        options = plain_options({**self.defaults, **param_group})
        super().add_param_group({**param_group, **options, "step": 0})
        group, number = self.param_groups[-1], len(self.param_groups) - 1
        try:
            for position, param in enumerate(group["params"]):
                self._require_param(param, _name(group, number, position))
        except ValueError:
            self.param_groups.pop()
            raise
        self._list_params()
        if not self._constructing:
            _warn_of_groups(self.param_groups, number, 3)

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
            If an option, a parameter or a gradient is not allowed. No parameter is changed then
            (ROSE-11.3), nor on any other rank that has parts of the same DTensors.

        Notes
        -----
        Where a parameter is a DTensor, all ranks of its mesh must call, with the same DTensors in the same order. They
        tell each other extrema and sums of folds (ROSE-7.4), of all parameters at once. A gradient crosses only where
        it is Partial, a sum that backward left to be made. Parameters that are offloaded to the CPU need a process
        group with a backend for it, as ``init_process_group("cpu:gloo,cuda:nccl")`` makes.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if torch.compiler.is_compiling():
            self._apply_in_graph()
        else:
            self._apply()
        return loss

    def _apply_in_graph(self) -> None:
        """Let a graph that is being compiled do the step, or end the graph where there are DTensors."""
        if self._has_dtensors:
            self._apply_after_graph()
        else:
            step_in_graph(self._number, self._params_of_groups)

    def _apply(self, gradients: Gradients | None = None) -> None:
        """Do the whole step, or raise before anything is changed."""
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            raise RuntimeError(_CAPTURING)
        if gradients is not None:
            self._require_groups_of_graph()
        parts: list[Tensor] = []
        params = list(chain.from_iterable(group["params"] for group in self.param_groups))
        if any_dtensors(params):
            parts = list(filter(is_dtensor, params))
        prepare = functools.partial(self._prepared, gradients)
        if parts:
            from rose_torch.agreement import on_every_rank  # noqa: PLC0415  (it is slow to load)

            updates, afterwards = on_every_rank(prepare, self.param_groups, _name)
        else:
            updates, afterwards = prepare()
        run_updates(updates, self._kernels)
        # What was written are the local tensors of DTensors; autograd knows the versions of the whole.
        torch.autograd.graph.increment_version([param for param in parts if param.grad is not None])
        for group, kept in zip(self.param_groups, afterwards, strict=True):
            group.update(kept)

    def state_dict(self) -> dict[str, Any]:
        """Return the options and schedules, the step counts, and the states of generators, in plain values.

        Returns
        -------
        dict
            As for every `torch.optim.Optimizer`. JSON can hold it, unless `lr` is a tensor.
        """
        state = super().state_dict()
        # A distributed checkpoint loads only the keys that a new optimizer's state has.
        groups = [
            ({"initial_lr": None} if group["wd_schedule"] is True else {}) | group for group in state["param_groups"]
        ]
        return {**state, "param_groups": pack_generators(groups)}

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        defaults, *groups = pack_generators([self.defaults, *self.param_groups])
        return {**state, "defaults": defaults, "param_groups": groups, "_fused": self._fused}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a state that is loaded, unpickled or copied; raise before anything is changed."""
        own = self.__dict__.get("param_groups") or [{"bf16_sr": False}] * len(state["param_groups"])
        groups = [
            _NOT_UPSTREAM | {key: mine[key] for key in _NOT_UPSTREAM if key in mine} | group
            for mine, group in zip(own, state["param_groups"], strict=True)
        ]
        current = [generator_of(mine) for mine in own]
        if "defaults" in state:  # not when loaded
            groups, current = [*groups, state["defaults"]], [*current, None]
        groups, generator_states = unpack_generators(groups, current)
        for number, group in enumerate(groups):
            if missing := [option for option in OPTIONS if option not in group]:
                raise ValueError(f"param group {number} of the state lacks {', '.join(missing)}")
            group.update(plain_options(group))
            if group.get("initial_lr", 0) is None:  # for schedulers, which set it where it is missing
                del group["initial_lr"]
            if "step" in group:  # the defaults have none
                steps = unsigned("step", group["step"], bits=32)
                if steps and group["wd_schedule"] is True and not (group.get("max_lr") or group.get("initial_lr")):
                    raise ValueError(_NO_REFERENCE.format(number=number))
        set_states(generator_states)
        if "defaults" in state:
            state = {**state, "defaults": groups.pop()}
            # Where the kernels are missing now, the core does their work.
            self._use_kernels(bool(state.get("_fused", True)) and resolve_fused(None))
            state.pop("_fused", None)
        super().__setstate__({**state, "param_groups": groups})
        self._list_params()

    def _list_params(self) -> None:
        """Keep the groups' lists apart from their options: of what it looks at a compiler makes constants."""
        self._params_of_groups = [group["params"] for group in self.param_groups]
        self._has_dtensors = any(map(is_dtensor, chain(*self._params_of_groups)))

    def _require_groups_of_graph(self) -> None:
        """Raise if the groups hold other lists than a graph has seen."""
        if list(map(id, self._params_of_groups)) != [id(group["params"]) for group in self.param_groups]:
            raise RuntimeError(
                "param_groups were changed by hand, which a compiled step does not see; allowed are add_param_group, "
                "load_state_dict and new options of a group"
            )

    def _prepared(self, gradients: Gradients | None) -> tuple[list[Updates], list[dict[str, Any]]]:
        """Return the parts of a step, and what the groups keep of it; nothing is changed."""
        return self._updates(gradients), [after_step(group, float(group["lr"])) for group in self.param_groups]

    def _updates(self, gradients: Gradients | None) -> list[Updates]:
        """Check the whole step and return its parts; nothing is changed.

        `gradients` are the parameters that have one, each with it, by index; None takes them as they are.
        """
        return [
            self._checked_group(number, group, first)(_given(first, group["params"], gradients))
            for number, (group, first) in enumerate(self._groups_and_indices())
        ]

    def _groups_and_indices(self) -> list[tuple[dict[str, Any], int]]:
        """Return the groups, each with the index of its first parameter."""
        counts = accumulate((len(group["params"]) for group in self.param_groups), initial=0)
        return list(zip(self.param_groups, counts, strict=False))

    def _checked_group(self, number: int, group: Mapping[str, Any], first: int) -> Callable[[Given], Updates]:
        """Check the options of a group with indices from `first` on, and return what checks some of its parameters."""
        options, generator = hyperparameters(group), generator_of(group)
        factor = scheduled_decay_factor(options, group)

        def name(index: int) -> str:
            return _name(group, number, index - first)

        find = self._checks.of_group(options, generator, name)

        def updates_of(given: Given) -> Updates:
            parts: Sequence[Any] | None = None
            if any_dtensors(chain(given.params, given.grads)):
                local = [_local(*one, name) for one in zip(*given, strict=True)]
                params, grads, parts = map(list, zip(*local, strict=True))
                given = given._replace(params=params, grads=grads)
            found = find(given)
            if parts is not None:
                own = zip(found.kernels, parts, strict=True)
                found = found._replace(kernels=[kernel if part is None else None for kernel, part in own])
            noise: list[PortableNoise | DrawnNoise | None] = [None] * len(given.indices)
            if any(found.stochastic):
                noise = [
                    self._noise_of(group, options, generator, index) if stochastic else None
                    for index, stochastic in zip(given.indices, found.stochastic, strict=True)
                ]
            return Updates(given.params, given.grads, options, factor, found, noise, parts)

        return updates_of

    def _noise_of(
        self, group: Mapping[str, Any], options: Hyperparameters, generator: torch.Generator | None, index: int
    ) -> PortableNoise | DrawnNoise:
        if options.sr_seed is not None:
            return PortableNoise(options.sr_seed, group["step"], index)
        self._warn_of_noise_per_rank()
        return DrawnNoise(generator)

    def _warn_of_noise_per_rank(self) -> None:
        """Warn once if each rank of a distributed run draws noise of its own, so that replicas drift apart."""
        if self._warned_of_noise_per_rank or not torch.distributed.is_available():
            return
        if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
            self._warned_of_noise_per_rank = True
            warnings.warn(
                "bf16_sr draws rounding noise from each rank's own generator: unless all are seeded alike, "
                "replicas of a parameter drift apart; sr_seed=0 gives every rank the same noise",
                UserWarning,
                stacklevel=2,
            )


def _given(first: int, params: Sequence[Tensor], gradients: Gradients | None) -> Given:
    """Return the parameters of a group to update, whose indices begin at `first`."""
    params = list(params)
    if gradients is None:
        grads: Sequence[Any] = [param.grad for param in params]
    else:
        held = [gradients.get(first + place, (param, None)) for place, param in enumerate(params)]
        params, grads = [param for param, _ in held], [grad for _, grad in held]
    own = [place for place, grad in enumerate(grads) if grad is not None]
    if any_dtensors(params):
        own = [place for place in own if not is_elsewhere(params[place])]
    return Given([first + place for place in own], [params[place] for place in own], [grads[place] for place in own])


def _local(index: int, param: Tensor, grad: Tensor, name: Callable[[int], str]) -> tuple[Tensor, Tensor, Any]:
    """Return the local tensors of a parameter and its gradient, and what part of it they are, None if all."""
    if not (is_dtensor(param) or is_dtensor(grad)):
        return param, grad, None
    from rose_torch.parts import local_part  # noqa: PLC0415  (it is slow to load)

    return local_part(param, grad, name(index))


def _name(group: Mapping[str, Any], number: int, position: int) -> str:
    names = group.get("param_names")
    return f"parameter {position} of group {number}" if names is None else f"parameter {names[position]!r}"


def _warn_of_groups(groups: Sequence[Mapping[str, Any]], first: int, stacklevel: int) -> None:
    """Warn, once a reason, of what is in the groups from the first on."""
    numbered = list(enumerate(groups))[first:]
    fixed = [
        f"{_name(group, number, position)} of shape {tuple(param.shape)}"
        for number, group in numbered
        for position, param in enumerate(group["params"])
        if stays_in_place(tuple(param.shape), centralize=group["centralize"])
    ]
    reasons = [warning_of_slices(", ".join(fixed))] if fixed else []
    reasons += warnings_of_decay((f"group {number}", hyperparameters(group), group) for number, group in numbered)
    for reason in reasons:
        warnings.warn(reason, UserWarning, stacklevel=stacklevel)
