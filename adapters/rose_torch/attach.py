"""Updates during backward: each parameter is updated when its gradient is complete, and the gradient is freed."""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.hooks import RemovableHandle

from rose_plan import uninterrupted
from rose_torch.distributed import is_dtensor
from rose_torch.graph import Gradients, not_traced
from rose_torch.openmp import subnormals_kept_in_threads
from rose_torch.optimizer import Rose
from rose_torch.options import OPTIONS, StepGroup
from rose_torch.plan import Given
from rose_torch.step import prepare_run

__all__ = ["AttachedRose", "Released", "attach"]

_RELEASED: Final = (
    "rose_torch.attach has used this gradient in backward and freed it: step() must come before the next backward, and "
    "whoever accumulates, clips or unscales gradients needs rose_torch.Rose, which leaves them in memory"
)
_TWICE: Final = (
    "backward ran again before step(), but rose_torch.attach needs every gradient complete after one: call step() "
    "first; to accumulate gradients use rose_torch.Rose, and for checkpointing use_reentrant=False"
)

# The entries that `groups` may return. wd_schedule refers to the last two.
_OF_GROUPS: Final = (*OPTIONS, "initial_lr", "max_lr")
# The types of options that are compared by value.
_PLAIN: Final = (bool, int, float, str, type(None), torch.dtype)
# The optimizers of attached parameters, by the id of the parameter. A weak reference to a parameter would forbid
# torch.utils.swap_tensors, which `Module.to` may use.
_attached: Final[dict[int, "weakref.ref[AttachedRose]"]] = {}

_KEEPER: Final = "_rose_torch_attached"

_Hooks = dict[int, RemovableHandle | None]
"""The hook of each attached parameter by its id, None for a frozen parameter."""


class AttachedRose(Rose):
    """A `Rose` that updates parameters in backward; `attach` makes it.

    It is a `torch.optim.Optimizer` for schedulers, `state_dict` and `load_state_dict`. `step` ends a step. It updates
    the parameters that backward has not updated: those that were frozen or in no group at the last `step`, and those
    with a gradient set by hand. It also counts the step, on which the portable noise depends.

    Notes
    -----
    The groups are read and checked when the first gradient of a step is complete. It is an error to change options
    between then and `step`. Until `step`, the `grad` of an updated parameter is a placeholder. It takes no memory, and
    using it raises a RuntimeError.

    See Also
    --------
    attach : what is allowed, what is refused, and an example.
    """

    _hooks: _Hooks | None = None  # None for a copy, which is not attached
    _begun: "_Begun | None" = None

    def __enter__(self) -> "AttachedRose":
        return self

    def __exit__(self, *error: object) -> None:
        self.detach()

    def detach(self) -> None:
        """Remove the hooks from the model. The optimizer becomes an ordinary `Rose`.

        A step that backward has begun, and `step` has not ended, is not counted.

        Examples
        --------
        >>> import torch
        >>> model = torch.nn.Linear(3, 2)
        >>> with attach(model, lr=0.5) as optimizer:
        ...     model(torch.ones(4, 3)).sum().backward()
        ...     optimizer.step()
        >>> model(torch.ones(4, 3)).sum().backward()
        >>> model.bias.grad.tolist()
        [4.0, 4.0]
        """
        if self._hooks is not None:
            self._finalizer.detach()
            _remove_hooks(self._hooks)
            for reference in self._modules:
                vars(reference() or self).pop(_KEEPER, None)
        self._hooks = None
        self._end()

    def _attach(self, model: nn.Module) -> None:
        """Check the options and the parameters, then add the hooks."""
        if self._nonfinite != "propagate":
            raise ValueError(
                f"nonfinite={self._nonfinite!r} needs all gradients before the first update; allowed is 'propagate'"
            )
        self._hooks = {}
        self._hook = not_traced(_hook_of(weakref.ref(self)))
        # The hooks go with the optimizer. The finalizer refers to neither the optimizer nor the parameters.
        self._finalizer = weakref.finalize(self, _remove_hooks, self._hooks)
        self._finalizer.atexit = False
        for group in self._step_groups():
            for index, param in self._params_of(group):
                if param.requires_grad and not is_lazy(param):
                    self._plan([Given(group, [index], [param], [param.detach()])])
        self._update_hooks()
        self._modules = [weakref.ref(module) for module in model.modules()]
        for module in model.modules():
            vars(module)[_KEEPER] = _Keeper(self)

    def _require_param(self, param: Tensor, name: str) -> None:
        super()._require_param(param, name)
        if self._hooks is None and not self._constructing:
            return
        if id(param) in _attached and _attached[id(param)]() not in (None, self):
            raise ValueError(f"{name} is attached already; detach() its optimizer first")
        if is_dtensor(param):
            raise ValueError(f"{name} is a DTensor; rose_torch.Rose updates these, attach does not")

    def _update_hooks(self) -> None:
        """Add a hook to each parameter that requires a gradient and has none, and remove those of former parameters."""
        if self._hooks is None:
            return
        params = {id(param): param for param in self._all_params()}
        _remove_hooks(self._hooks, set(self._hooks) - set(params))
        for key, param in params.items():
            hook = self._hooks.setdefault(key, None)
            _attached[key] = weakref.ref(self)
            if hook is None and param.requires_grad and not is_lazy(param):
                self._hooks[key] = param.register_post_accumulate_grad_hook(self._hook)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    @subnormals_kept_in_threads
    def _release(self, param: Tensor) -> None:
        """Update a parameter whose gradient is complete, and free the gradient."""
        backward = torch._C._current_graph_task_id()
        if self._begun is None:
            self._begun = self._begin(backward)
        owner, grad = self._begun.owners.get(param), param.grad
        if owner is None or grad is None:  # it is in no group any more, or another hook took its gradient
            return
        group, index = owner
        try:
            if self._begun.backward != backward:
                raise RuntimeError(_TWICE)
            plan = self._plan([Given(group, [index], [param], [grad])])
            self._warn_of(plan, [group])
        except Exception:
            param.grad = None  # step() ends the begun step, without the refused gradient
            raise
        write = prepare_run(plan, self._kernels)
        with uninterrupted():
            write()
            param.grad = Released(param)

    def _begin(self, backward: int) -> "_Begun":
        """Check the options of all groups, which hold for the whole step."""
        groups = self._step_groups()
        owners = {param: (group, index) for group in groups for index, param in self._params_of(group)}
        return _Begun(backward, groups, owners)

    def _step_groups(self) -> list[StepGroup]:
        groups = super()._step_groups()
        for group in groups:
            options = group.options
            draws = any(p.requires_grad and options.rounds_stochastically(p) for p in group.entries["params"])
            if self._hooks is not None and draws and options.sr_seed is None:
                raise ValueError(
                    f"param group {group.number} has bfloat16 parameters and sr_seed=None, so that their noise is "
                    "drawn in their order, but backward completes gradients in another; allowed are sr_seed=0 (or any "
                    "other seed) and bf16_sr=False"
                )
        return groups

    def _apply_in_graph(self) -> None:
        """End the graph that is being compiled: the gradients that are left cannot be computed with."""
        self._apply_after_graph(self)

    def _apply(self, gradients: Gradients | None = None) -> None:
        """End the step."""
        if self._begun is not None:
            _require_same_options(self._begun.groups, self._step_groups())
        self._drop_markers()
        self._renew_hooks()
        super()._apply(gradients)
        self._begun = None
        self._update_hooks()

    def _renew_hooks(self) -> None:
        """Register hooks again that did not run, because torch.utils.swap_tensors took them from autograd."""
        for param in self._all_params():
            if param.grad is not None and (self._hooks or {}).get(id(param)) is not None:
                param._post_accumulate_grad_hooks = param._post_accumulate_grad_hooks

    def _end(self) -> None:
        """Forget a step that has begun."""
        self._drop_markers()
        self._begun = None

    def _drop_markers(self) -> None:
        for param in self._all_params():
            if isinstance(param.grad, Released):
                param.grad = None

    def _all_params(self) -> Iterator[Tensor]:
        return chain.from_iterable(group["params"] for group in self.param_groups)

    @staticmethod
    def _params_of(group: StepGroup) -> Iterator[tuple[int, Tensor]]:
        """Yield the index of each parameter of a group, and the parameter."""
        return enumerate(group.entries["params"], group.first)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a state; a step that backward has begun is not counted."""
        super().__setstate__(state)
        self._end()


class _Keeper:
    """An attribute of a module that keeps its optimizer alive. It is not copied or pickled with the module."""

    def __init__(self, optimizer: AttachedRose | None = None) -> None:
        self._optimizer = optimizer

    def __reduce__(self) -> tuple[Any, ...]:
        return _Keeper, ()


def _hook_of(reference: "weakref.ref[AttachedRose]") -> Callable[[Tensor], None]:
    """Return the hook of an optimizer's parameters. A strong reference would keep both alive for ever."""

    def release(param: Tensor) -> None:
        optimizer = reference()
        if optimizer is not None:
            optimizer._release(param)

    return release


def _remove_hooks(hooks: _Hooks, keys: Iterable[int] | None = None) -> None:
    """Remove hooks, and their parameters from those that are attached; None removes all."""
    for key in list(hooks) if keys is None else keys:
        hook = hooks.pop(key)
        if hook is not None:
            hook.remove()
        _attached.pop(key, None)


class _Begun(NamedTuple):
    """A step that has begun.

    Attributes
    ----------
    backward : the id of the backward pass that runs the step.
    groups : the groups with the options of the step.
    owners : the group and the index of each parameter.
    """

    backward: int
    groups: list[StepGroup]
    owners: dict[Tensor, tuple[StepGroup, int]]


class Released(Tensor):
    """The placeholder of a freed gradient. It has no memory, and every operation on it raises."""

    @staticmethod
    def __new__(cls, param: Tensor) -> "Released":
        made: Released = Tensor._make_wrapper_subclass(cls, param.shape, dtype=param.dtype, device=param.device)
        return made

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return "a gradient that rose_torch.attach has used and freed"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise RuntimeError(_RELEASED)


def attach(
    model: nn.Module,
    lr: float | Tensor,
    *,
    groups: Callable[[str, nn.Parameter], Mapping[str, Any]] | None = None,
    **options: Any,
) -> AttachedRose:
    """Update each parameter of a model in backward, when its gradient is complete, and free the gradient.

    Besides activations, training then needs memory for the parameters and for about one gradient. Without `max_step`,
    steps 1, 10, 100 and so on may also need 64 bytes for each slice of one parameter. The parameters have the same bits
    as after steps of `Rose` with the same groups and options.

    Parameters
    ----------
    model : torch.nn.Module
        Its parameters may be frozen, tied, and used more than once.
    lr, **options
        As for `Rose`. A scheduler or the user may change them between steps.
    groups : callable, optional
        Takes the name of a parameter and the parameter, and returns a dict of the options that differ for it.
        Parameters with equal options form a group, in the order of the model. A tensor or a generator is equal only
        to itself.

    Returns
    -------
    AttachedRose
        The optimizer. Call its `step` after each backward, and `detach` to remove it from the model. The model keeps
        it alive.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        If an option or a parameter is not allowed, or if `bf16_sr` would draw noise without `sr_seed`. Also if the
        model is attached already, has layers with sparse gradients, or is distributed. Nothing is attached then.

    Notes
    -----
    All options are checked before the first parameter of a step is changed. Each gradient is checked by itself. If one
    is refused, or backward fails, earlier parameters are updated already. `step` then ends the step without the others.

    A graph may need a parameter in backward without computing its gradient, for instance through `detach`. Autograd
    raises a RuntimeError if this parameter has been updated before. Checkpointing does not notice: it recomputes with
    the updated parameters. Every use of a parameter inside a checkpoint must therefore have a gradient.

    Algorithms that need several gradients at once cannot work:

    - A second backward before `step`, as in gradient accumulation and in reentrant checkpoints, is an error. It is
      raised before a parameter is changed, and leaves no gradient.
    - Using gradients after backward is an error, for instance clipping, or `torch.amp.GradScaler`. The parameters are
      updated already then.
    - `DistributedDataParallel` must not wrap the model later. It would average the gradients after their use.

    Backward updates every attached parameter that it reaches. In a GAN, the loss of the generator also reaches the
    discriminator. Freeze the discriminator for this backward, with ``discriminator.requires_grad_(False)``.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    >>> optimizer = attach(model, lr=0.1, groups=lambda name, p: {"weight_decay": 0.0} if "bias" in name else {})
    >>> scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=3)
    >>> for _ in range(3):
    ...     model(torch.randn(5, 3)).square().sum().backward()  # updates the parameters
    ...     optimizer.step()  # ends the step
    ...     scheduler.step()
    >>> [(group["param_names"], group["step"]) for group in optimizer.param_groups]
    [(['0.weight', '1.weight'], 3), (['0.bias', '1.bias'], 3)]
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    for name, module in model.named_modules():
        _refuse_module(name, module)
    named = model.named_parameters()
    optimizer = AttachedRose(named if groups is None else _grouped(named, groups), lr, **options)
    optimizer._attach(model)
    return optimizer


def _refuse_module(name: str, module: nn.Module) -> None:
    if isinstance(module, nn.parallel.DistributedDataParallel):
        raise ValueError(
            f"model must not be distributed: DistributedDataParallel{f', in {name!r},' if name else ''} averages "
            "gradients that would be used before; use rose_torch.Rose"
        )
    if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.sparse:
        raise ValueError(f"module {name!r} has sparse=True; Rose needs dense gradients, allowed is sparse=False")


def _grouped(
    named: Iterable[tuple[str, nn.Parameter]], groups: Callable[[str, nn.Parameter], Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return a parameter group for each set of options that `groups` returns."""
    if not callable(groups):
        raise TypeError(f"groups must be a function of a parameter's name and the parameter, got {groups!r}")
    grouped: list[tuple[dict[str, Any], list[tuple[str, nn.Parameter]]]] = []
    for name, param in named:
        options = groups(name, param)
        if not isinstance(options, Mapping) or not set(options) <= set(_OF_GROUPS):
            allowed = ", ".join(_OF_GROUPS)
            raise TypeError(f"groups({name!r}, ...) must return a dict of options, of {allowed}; got {options!r}")
        same = next((members for others, members in grouped if _same_options(others, options)), None)
        if same is None:
            grouped.append((dict(options), [(name, param)]))
        else:
            same.append((name, param))
    return [{**options, "params": members} for options, members in grouped]


def _same_options(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether options are the same: tensors and generators by identity, others by type and value."""
    return one.keys() == other.keys() and all(
        value is other[key] or (type(value) is type(other[key]) and type(value) in _PLAIN and value == other[key])
        for key, value in one.items()
    )


def _require_same_options(before: list[StepGroup], now: list[StepGroup]) -> None:
    """Raise if an option has changed since parameters were updated."""
    for was, is_ in zip(before, now, strict=False):  # groups may have been added
        values = [(option, getattr(was.options, option), getattr(is_.options, option)) for option in OPTIONS]
        for name, old, new in [*values, ("the factor of the decay, of lr and its schedule,", was.decay, is_.decay)]:
            if old != new:
                raise ValueError(
                    f"{name} of param group {was.number} was {old!r} when backward updated parameters, and is {new!r} "
                    "at step(); it may change between step() and backward"
                )
