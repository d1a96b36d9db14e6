"""State dicts for upstream's optimizer, which reads fewer keys and its dtypes as objects."""

import warnings
from collections.abc import Mapping
from typing import Any, Final

import torch

from rose_torch.generators import STATE_KEY

__all__ = ["upstream_state_dict"]

_DTYPES: Final = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    None: None,
}
_OURS: Final = ("maximize", "sr_seed", "step", STATE_KEY)


def upstream_state_dict(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict that `rose_opt.Rose` 1.0.2 can load and step with.

    The other way needs no help: `Rose.load_state_dict` takes upstream's as it is.

    Parameters
    ----------
    state_dict : mapping
        What `Rose.state_dict` returned. It is not changed.

    Returns
    -------
    dict
        The same with `compute_dtype` as a `torch.dtype` and without the keys that upstream does not know.

    Raises
    ------
    ValueError
        If a group has ``maximize=True``, which upstream cannot do.

    Warns
    -----
    UserWarning
        If a group's rounding noise comes from `sr_seed` or a generator: upstream draws other words.

    Examples
    --------
    >>> import torch
    >>> from rose_torch import Rose
    >>> optimizer = Rose([torch.nn.Parameter(torch.ones(2))], lr=1e-3)
    >>> upstream_state_dict(optimizer.state_dict())["param_groups"][0]["compute_dtype"]
    torch.float64
    """
    groups = state_dict["param_groups"]
    if any(group["maximize"] for group in groups):
        raise ValueError("maximize must be False in every group for rose_opt.Rose, got True")
    if any(group["bf16_sr"] and (group["sr_seed"] is not None or STATE_KEY in group) for group in groups):
        warnings.warn("rose_opt.Rose will not continue the rounding noise of this run", UserWarning, stacklevel=2)
    return {**state_dict, "param_groups": [_upstream_group(group) for group in groups]}


def _upstream_group(group: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in group.items() if key not in _OURS and (key, value) != ("initial_lr", None)}
    return kept | {"compute_dtype": _DTYPES[group["compute_dtype"]]}
