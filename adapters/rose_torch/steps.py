"""A step's parts, checked and ready to be done, and their doing: by compiled kernels, or by the core block by block."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rose_core import Hyperparameters
from rose_core.blocks import updated_blocks
from rose_core.noise import noise_source
from rose_core.rounding import ComputeDtype
from rose_kernels import Kernel, Kernels, Requests
from rose_torch.generators import drawn_words
from rose_torch.placement import extent, overlapping

__all__ = ["DrawnNoise", "PortableNoise", "Update", "run_updates"]


class PortableNoise(NamedTuple):
    """What a parameter's portable noise is made from (ROSE-9.2)."""

    seed: int
    step: int
    index: int  # type: ignore[assignment]  # a tuple has a method of this name, which nobody calls here


class DrawnNoise(NamedTuple):
    """What a parameter's noise is drawn from: a generator, None for torch's own."""

    generator: torch.Generator | None


class Update(NamedTuple):
    """One parameter's part of a step."""

    param: Tensor
    grad: Tensor
    options: Hyperparameters
    factor: float
    compute: ComputeDtype
    noise: PortableNoise | DrawnNoise | None
    kernel: Kernel | None


def run_updates(updates: Sequence[Update], kernels: Kernels) -> None:
    """Do a step: what kernels can do at once, then the others in their order, for they may draw noise in turn."""
    params, grads = [update.param.data_ptr() for update in updates], [update.grad.data_ptr() for update in updates]
    updates = _apart(updates, params, grads)
    kernels.prepare([update.kernel for update in updates])
    at_once = [
        place
        for place, update in enumerate(updates)
        if update.kernel is not None and not isinstance(update.noise, DrawnNoise)
    ]
    if at_once:
        kernels.run(_requests(updates, params, grads, at_once), torch.get_num_threads())
    if len(at_once) < len(updates):
        for place in sorted(set(range(len(updates))) - set(at_once)):
            if updates[place].kernel is None:
                _run_by_core(updates[place])
            else:
                _run_drawing(updates[place], _requests(updates, params, grads, [place]), kernels)
    # Autograd sees what torch's own operations change; a kernel's writing it must be told of.
    torch.autograd.graph.increment_version([update.param for update in updates if update.kernel is not None])


def _apart(updates: Sequence[Update], params: Sequence[int], grads: Sequence[int]) -> Sequence[Update]:
    """Return the updates with copies of the gradients that lie in a parameter's memory, at some addresses.

    Such a gradient would change with the parameter before its own turn. The core takes the copy, which may lie in
    another order.
    """
    if not updates:
        return updates
    param_extents = [extent(u.param) if u.kernel is None else u.kernel.layout.param_extent for u in updates]
    grad_extents = [extent(u.grad) if u.kernel is None else u.kernel.layout.grad_extent for u in updates]
    places = overlapping((params, param_extents), (grads, grad_extents))
    if not places:
        return updates
    separate = list(updates)
    for place in places:
        separate[place] = updates[place]._replace(grad=updates[place].grad.clone(), kernel=None)
    return separate


def _requests(
    updates: Sequence[Update], params: Sequence[int], grads: Sequence[int], places: Sequence[int]
) -> Requests:
    """Return the requests of some of the updates, with the addresses of all parameters and gradients given."""
    own = updates
    if len(places) < len(updates):
        own = [updates[place] for place in places]
        params, grads = [params[place] for place in places], [grads[place] for place in places]
    return Requests(
        kernels=[update.kernel for update in own],  # type: ignore[misc]
        params=params,
        grads=grads,
        rates=[update.options.lr for update in own],
        factors=[update.factor for update in own],
        negated=[update.options.maximize for update in own],
        noise=[update.noise if isinstance(update.noise, PortableNoise) else None for update in own],
    )


def _run_drawing(update: Update, requests: Requests, kernels: Kernels) -> None:
    words = drawn_words(update.param, update.noise.generator)  # type: ignore[union-attr]

    def draw(start: int, stop: int) -> tuple[int, Any]:
        drawn = words(start, stop)
        return drawn.data_ptr(), drawn

    kernels.run_drawing(requests, draw, torch.get_num_threads())


def _run_by_core(update: Update) -> None:
    param, noise = update.param, None
    if isinstance(update.noise, PortableNoise):
        noise = noise_source(**update.noise._asdict(), like=param)
    elif isinstance(update.noise, DrawnNoise):
        noise = drawn_words(param, update.noise.generator)
    blocks = updated_blocks(
        param, update.grad, update.options, factor=update.factor, compute=update.compute, noise=noise
    )
    for index, values in blocks:
        param[index].copy_(values)
