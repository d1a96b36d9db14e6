"""The effect of the next step of a torch optimizer."""

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from rose_diagnosis import Diagnosis, ParameterDiagnosis
from rose_diagnosis.parameter import diagnose_parameter
from rose_torch.attach import Released
from rose_torch.optimizer import Rose
from rose_torch.options import hyperparameters

__all__ = ["diagnose"]


@torch.no_grad()
def diagnose(optimizer: Any, model: nn.Module | None = None) -> Diagnosis:
    """Return the effect that the next step would have on each parameter, given the current gradients.

    Use it for telemetry. It costs about four steps of the core, which are many steps of the compiled kernels, and
    reads numbers back from the device. It changes nothing, not even the generators of noise.

    Parameters
    ----------
    optimizer : Rose
        The optimizer, or a framework's wrapper with the optimizer as its attribute `optimizer`.
    model : torch.nn.Module, optional
        Names the parameters, if the optimizer was given parameters without names.

    Returns
    -------
    rose_diagnosis.Diagnosis
        A sequence with an entry for each parameter. It can be printed as a table, plotted, or converted to plain
        values.

    Raises
    ------
    TypeError, ValueError
        If `optimizer` is no Rose or `model` no module, or if a step would refuse an option or a dtype.
    RuntimeError
        If `rose_torch.attach` has freed a gradient.

    Notes
    -----
    Shards of a DTensor are gathered for the diagnosis, so all its ranks must call this function.

    Examples
    --------
    >>> import torch
    >>> from rose_torch import Rose, diagnose
    >>> weight = torch.nn.Parameter(torch.full((2, 2), 0.5))
    >>> optimizer = Rose([("weight", weight)], lr=0.25)
    >>> weight.grad = torch.tensor([[1.0, 3.0], [2.0, 4.0]])
    >>> diagnose(optimizer).scalars()["rose/weight/relative_update"]
    0.25
    """
    if model is not None and not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module or None, got {type(model).__name__}")
    return Diagnosis(_entries(_unwrapped(optimizer), model))


def _entries(optimizer: Rose, model: nn.Module | None) -> Iterator[ParameterDiagnosis]:
    names = _names(optimizer, model)
    for number, group in enumerate(optimizer.param_groups):
        options = hyperparameters(group)
        for param, name in zip(group["params"], names[number], strict=True):
            if isinstance(param.grad, Released):
                raise RuntimeError(f"the gradient of {name} was used in backward and freed by rose_torch.attach")
            grad = None if param.grad is None else _whole(param.grad)
            yield diagnose_parameter(name, param if grad is None else _whole(param), grad, options)


def _names(optimizer: Rose, model: nn.Module | None) -> list[list[str]]:
    """Return unique names for the parameters of each group."""
    of_model = {} if model is None else {id(param): name for name, param in model.named_parameters()}
    names = []
    for number, group in enumerate(optimizer.param_groups):
        given = group.get("param_names")
        unnamed = [f"parameter {position} of group {number}" for position in range(len(group["params"]))]
        found = [of_model.get(id(param), name) for param, name in zip(group["params"], unnamed, strict=True)]
        names.append(found if given is None else given)
    count = Counter(itertools.chain(*names))
    return [
        [name if count[name] == 1 else f"{name} of group {number}" for name in group_names]
        for number, group_names in enumerate(names)
    ]


def _unwrapped(optimizer: Any) -> Rose:
    inner = optimizer
    while not isinstance(inner, Rose):
        if not hasattr(inner, "optimizer"):
            raise TypeError(f"optimizer must be a rose_torch.Rose or a wrapper of one, got {type(optimizer).__name__}")
        inner = inner.optimizer
    return inner


def _whole(tensor: Tensor) -> Tensor:
    """Return a tensor, gathered if it is a DTensor. Not every build of torch has the type."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
