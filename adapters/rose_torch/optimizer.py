"""The PyTorch optimizer."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from rose_core import Hyperparameters
from rose_core.blocks import NoiseSource, updated_blocks
from rose_core.decay import after_step, scheduled_decay_factor
from rose_core.hyperparameters import unsigned
from rose_core.noise import noise_source
from rose_core.rounding import ComputeDtype
from rose_core.statistics import stays_in_place, warning_of_slices
from rose_core.update import checked_compute_dtype, repeats_memory
from rose_torch.generators import drawn_words, pack_generators, set_states, unpack_generators
from rose_torch.options import OPTIONS, generator_of, hyperparameters, plain_options
from rose_torch.placement import same_device, storage_address

__all__ = ["Rose"]

# Keys of a group that upstream's state dicts lack, with what their absence means.
_NOT_UPSTREAM: Final = {"maximize": False, "sr_seed": None, "step": 0}


class _Update(NamedTuple):
    """One parameter's part of a step, checked and ready to be done."""

    param: Tensor
    grad: Tensor
    options: Hyperparameters
    factor: float
    compute: ComputeDtype
    noise: Callable[[], NoiseSource] | None


class Rose(torch.optim.Optimizer):
    """Rose (Range-Of-Slice Equilibration, by Matthew E. Kieren), a drop-in for `rose_opt.Rose`.

    Parameters
    ----------
    params : iterable of Tensor, of (str, Tensor), or of dict
        Parameters or parameter groups, as for every `torch.optim.Optimizer`: dense tensors of float64,
        float32, float16 or bfloat16. A group may override every option.
    lr : float or Tensor
        Learning rate, a finite number >= 0; a tensor of rank 0 is read at every step.
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

    Raises
    ------
    TypeError, ValueError
        If an option is not allowed; the message names it.

    Warns
    -----
    UserWarning
        Where centering leaves nothing of a parameter's gradient, and where ranks of a distributed run
        draw noise of their own.

    See Also
    --------
    rose_torch.upstream_state_dict : a state dict for `rose_opt.Rose`; loading one of its needs no help.

    Notes
    -----
    `spec/SPEC.md` says what a step computes. Each parameter is updated by `rose_core.update`. With
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
    ) -> None:
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

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, with options that override those given to the constructor.

        Parameters
        ----------
        param_group : dict
            "params" and the options of the group. It is not changed.

        Raises
        ------
        TypeError, ValueError
            If an option is not allowed, or a parameter is in a group already.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, got {type(param_group).__name__}")
        options = plain_options({**self.defaults, **param_group})
        super().add_param_group({**param_group, **options, "step": 0})
        # Two constructors, torch's and this class's, may stand between here and the caller.
        stacklevel = 5 if self._constructing else 3
        _warn_of_fixed_slices(self.param_groups[-1], len(self.param_groups) - 1, stacklevel)

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
            (ROSE-11.3).
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        tasks = list(self._updates())
        afterwards = [after_step(group, float(group["lr"])) for group in self.param_groups]
        for task in tasks:
            noise = None if task.noise is None else task.noise()
            blocks = updated_blocks(
                task.param, task.grad, task.options, factor=task.factor, compute=task.compute, noise=noise
            )
            for index, values in blocks:
                task.param[index].copy_(values)
        for group, kept in zip(self.param_groups, afterwards, strict=True):
            group.update(kept)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the options and schedules, the step counts, and the states of generators, in plain values.

        Returns
        -------
        dict
            As for every `torch.optim.Optimizer`. JSON can hold it, unless `lr` is a tensor.
        """
        state = super().state_dict()
        return {**state, "param_groups": pack_generators(state["param_groups"])}

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        defaults, *groups = pack_generators([self.defaults, *self.param_groups])
        return {**state, "defaults": defaults, "param_groups": groups}

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
            if "step" in group:  # the defaults have none
                unsigned("step", group["step"], bits=32)
        set_states(generator_states)
        if "defaults" in state:
            state = {**state, "defaults": groups.pop()}
        super().__setstate__({**state, "param_groups": groups})

    def _updates(self) -> Iterator[_Update]:
        """Check the whole step and return its parts; nothing is changed."""
        index = 0
        storages = {storage_address(param) for group in self.param_groups for param in group["params"]}
        for number, group in enumerate(self.param_groups):
            options = hyperparameters(group)
            factor = scheduled_decay_factor(options, group)
            for position, param in enumerate(group["params"]):
                if param.grad is not None:
                    name = _name(group, number, position)
                    task = self._checked(param, param.grad, group, options, factor, index, name)
                    # A gradient in a parameter's memory would change with it before its own turn.
                    yield task._replace(grad=task.grad.clone()) if storage_address(task.grad) in storages else task
                index += 1

    def _checked(
        self,
        param: Tensor,
        grad: Tensor,
        group: Mapping[str, Any],
        options: Hyperparameters,
        factor: float,
        index: int,
        name: str,
    ) -> _Update:
        if grad.layout != torch.strided or param.layout != torch.strided:
            raise RuntimeError(f"Rose needs dense gradients, the gradient of {name} has layout {grad.layout}")
        if repeats_memory(param.shape, param.stride()):
            raise RuntimeError(f"{name} has elements that share memory, so it cannot be updated in place")
        if param.is_inference():
            raise RuntimeError(f"{name} was made in inference mode, so it cannot be updated in place")
        stochastic = options.rounds_stochastically(param)
        names = (name, f"the gradient of {name}")
        compute = checked_compute_dtype(param, grad, options.compute_dtype, stochastic=stochastic, names=names)
        noise = self._noise_source(param, group, options, index, name) if stochastic else None
        return _Update(param, grad, options, factor, compute, noise)

    def _noise_source(
        self, param: Tensor, group: Mapping[str, Any], options: Hyperparameters, index: int, name: str
    ) -> Callable[[], NoiseSource]:
        """Return what begins to draw the parameter's words: in C order, so that no memory format changes them."""
        seed = options.sr_seed
        if seed is not None:
            step = group["step"]
            return lambda: noise_source(seed=seed, step=step, index=index, like=param)
        generator = generator_of(group)
        if generator is not None and not same_device(generator.device, param.device):
            raise ValueError(f"bf16_sr is a generator on device {generator.device}, {name} is on {param.device}")
        self._warn_of_noise_per_rank()
        return lambda: drawn_words(param, generator)

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


def _name(group: Mapping[str, Any], number: int, position: int) -> str:
    names = group.get("param_names")
    return f"parameter {position} of group {number}" if names is None else f"parameter {names[position]!r}"


def _warn_of_fixed_slices(group: Mapping[str, Any], number: int, stacklevel: int) -> None:
    fixed = [
        f"{_name(group, number, position)} of shape {tuple(param.shape)}"
        for position, param in enumerate(group["params"])
        if stays_in_place(tuple(param.shape), centralize=group["centralize"])
    ]
    if fixed:
        warnings.warn(warning_of_slices(", ".join(fixed)), UserWarning, stacklevel=stacklevel)
