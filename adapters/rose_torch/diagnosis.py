"""What the next step of a torch optimizer would do."""

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
    """Return what the next step would do to each parameter, from the gradients that are there now.

    For telemetry: it costs about four steps of the core, which are many of the compiled kernels, reads numbers back
    from the device, and changes nothing, the generators of noise included.

    Parameters
    ----------
    optimizer : Rose
        The optimizer, or what a framework has wrapped it in, with the optimizer as `optimizer`.
    model : torch.nn.Module, optional
        Gives the parameters its names, where the optimizer was not given named ones.

    Returns
    -------
    rose_diagnosis.Diagnosis
        A sequence of one entry a parameter, to be printed as a table with rich, plotted, or turned into plain values.

    Raises
    ------
    TypeError, ValueError
        If `optimizer` is no Rose or `model` no module, or an option or a dtype is one that a step refuses.
    RuntimeError
        If `rose_torch.attach` has freed a gradient.

    Notes
    -----
    A sharded parameter (DTensor) is gathered for as long as it is looked at: all its ranks must call this.

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
    """Return what to call the parameters of each group, no two the same."""
    of_model = {} if model is None else {id(param): name for name, param in model.named_parameters()}
    names = []
    for number, group in enumerate(optimizer.param_groups):
        own = group.get("param_names")
        unnamed = [f"parameter {position} of group {number}" for position in range(len(group["params"]))]
        found = [of_model.get(id(param), name) for param, name in zip(group["params"], unnamed, strict=True)]
        names.append(found if own is None else own)
    count = Counter(itertools.chain(*names))
    return [
        [name if count[name] == 1 else f"{name} of group {number}" for name in own] for number, own in enumerate(names)
    ]


def _unwrapped(optimizer: Any) -> Rose:
    inner = optimizer
    while not isinstance(inner, Rose):
        if not hasattr(inner, "optimizer"):
            raise TypeError(f"optimizer must be a rose_torch.Rose or a wrapper of one, got {type(optimizer).__name__}")
        inner = inner.optimizer
    return inner


def _whole(tensor: Tensor) -> Tensor:
    """Return a tensor, gathered if it is a DTensor, whose module not every build of torch has."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
