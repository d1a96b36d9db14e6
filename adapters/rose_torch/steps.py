"""A step's parts, checked and ready to be done, and their doing: by compiled kernels, or by the core block by block."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from rose_core import Hyperparameters
from rose_core.blocks import NoiseSource, Step, updated_blocks
from rose_core.gradient import Gradient
from rose_core.namespace import quiet
from rose_core.noise import noise_source
from rose_core.rounding import ComputeDtype
from rose_kernels import Kernel, Kernels, Requests
from rose_torch.collectives import in_lockstep
from rose_torch.generators import drawn_words
from rose_torch.placement import extent, overlapping
from rose_torch.sharded import Statistics, noise_of_part, statistics_of_part, updated_part
from rose_torch.small import as_numpy, in_numpy, is_small
from rose_torch.team import threads_of_torch

if TYPE_CHECKING:
    from rose_torch.parts import Part

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
    """One parameter's part of a step; of a DTensor the local tensors, and what part of the whole they are."""

    param: Tensor
    grad: Tensor
    options: Hyperparameters
    factor: float
    compute: ComputeDtype
    noise: PortableNoise | DrawnNoise | None
    kernel: Kernel | None
    part: "Part | None" = None


def run_updates(updates: Sequence[Update], kernels: Kernels) -> None:
    """Do a step: what kernels can do at once, then the others in their order, for they may draw noise in turn.

    What ranks tell each other, they tell before the first parameter is written.
    """
    has_parts = any(update.part is not None for update in updates)
    if has_parts:
        updates = [_reduced(update) for update in updates]
    params, grads = [update.param.data_ptr() for update in updates], [update.grad.data_ptr() for update in updates]
    updates = _apart(updates, params, grads)
    statistics = _statistics_of_parts(updates) if has_parts else {}
    kernels.prepare([update.kernel for update in updates])
    at_once = [
        place
        for place, update in enumerate(updates)
        if update.kernel is not None and not isinstance(update.noise, DrawnNoise)
    ]
    if at_once:
        kernels.run(_requests(updates, params, grads, at_once), threads_of_torch())
    if len(at_once) < len(updates):
        for place in sorted(set(range(len(updates))) - set(at_once)):
            if updates[place].kernel is None:
                _run_by_core(updates[place], statistics.get(place))
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

    kernels.run_drawing(requests, draw, threads_of_torch())


def _reduced(update: Update) -> Update:
    """Return the update with the gradient that the ranks have still to sum, as after sequence-parallel layers."""
    part = update.part
    if part is None or part.reduced is None:
        return update
    return update._replace(grad=part.reduced(), part=part if part.within or part.across else None)


@quiet
def _statistics_of_parts(updates: Sequence[Update]) -> dict[int, Statistics]:
    """Return the statistics of those updates that are of parts, by their place."""
    parts = [(place, update, update.part) for place, update in enumerate(updates) if update.part is not None]
    statistics = in_lockstep([statistics_of_part(_step(update, None), part) for _, update, part in parts])
    return {place: found for (place, *_), found in zip(parts, statistics, strict=True)}


def _run_by_core(update: Update, statistics: Statistics | None) -> None:
    param, grad = update.param, update.grad
    if statistics is not None:
        for index, values in updated_part(_step(update, _noise_source(update, param)), statistics):
            param[index].copy_(values)
    elif is_small(param, grad):
        array = as_numpy(param)
        for index, values in _updated_blocks(update, array, as_numpy(grad)):
            array[index] = values
        torch.autograd.graph.increment_version(param)
    else:
        for index, values in _updated_blocks(update, param, grad):
            param[index].copy_(values)


def _updated_blocks(update: Update, param: Any, grad: Any) -> Iterator[tuple[tuple[slice, ...], Any]]:
    """Return what the core makes of a parameter and its gradient, tensors or the arrays in their place."""
    noise = _noise_source(update, like=param)
    return updated_blocks(param, grad, update.options, factor=update.factor, compute=update.compute, noise=noise)


def _step(update: Update, noise: NoiseSource | None) -> Step:
    gradient = Gradient(update.grad, update.compute, update.options.maximize)
    return Step(update.param, gradient, update.options, update.factor, noise)


def _noise_source(update: Update, like: Any) -> NoiseSource | None:
    """Return the source of a parameter's noise, in arrays of the library of `like`."""
    noise = update.noise
    if noise is None:
        return None
    if isinstance(noise, DrawnNoise):
        words = drawn_words(update.param, noise.generator)
        return words if like is update.param else in_numpy(words)
    if update.part is None:
        return noise_source(**noise._asdict(), like=like)
    return noise_of_part(update.part, **noise._asdict(), like=like)
