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
from rose_torch.placement import memory_of, overlapping

__all__ = ["DrawnNoise", "PortableNoise", "Update", "apart", "run_updates"]


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


def apart(updates: Sequence[Update]) -> list[Update]:
    """Return the updates with copies of the gradients that lie in a parameter's memory.

    Such a gradient would change with the parameter before its own turn.
    """
    if not updates:
        return []
    params, grads = [memory_of(update.param) for update in updates], [memory_of(update.grad) for update in updates]
    separate = list(updates)
    for place in overlapping(params, grads):  # by the core, for a copy may lie in another order
        separate[place] = updates[place]._replace(grad=updates[place].grad.clone(), kernel=None)
    return separate


def run_updates(updates: Sequence[Update], kernels: Kernels) -> None:
    """Do a step: what kernels can do at once, then the others in their order, for they may draw noise in turn."""
    by_kernels = [update for update in updates if update.kernel is not None]
    kernels.prepare(update.kernel.kind for update in by_kernels)  # type: ignore[union-attr]
    at_once = [update for update in by_kernels if not isinstance(update.noise, DrawnNoise)]
    if at_once:
        kernels.run(_requests(at_once), torch.get_num_threads())
    for update in updates:
        if update.kernel is None:
            _run_by_core(update)
        elif isinstance(update.noise, DrawnNoise):
            _run_drawing(update, update.noise, kernels)
    # Autograd sees what torch's own operations change; a kernel's writing it must be told of.
    torch.autograd.graph.increment_version([update.param for update in by_kernels])


def _requests(updates: Sequence[Update]) -> Requests:
    return Requests(
        kernels=[update.kernel for update in updates],  # type: ignore[misc]
        params=[update.param.data_ptr() for update in updates],
        grads=[update.grad.data_ptr() for update in updates],
        rates=[update.options.lr for update in updates],
        factors=[update.factor for update in updates],
        negated=[update.options.maximize for update in updates],
        noise=[update.noise if isinstance(update.noise, PortableNoise) else None for update in updates],
    )


def _run_drawing(update: Update, noise: DrawnNoise, kernels: Kernels) -> None:
    words = drawn_words(update.param, noise.generator)

    def draw(start: int, stop: int) -> tuple[int, Any]:
        drawn = words(start, stop)
        return drawn.data_ptr(), drawn

    kernels.run_drawing(_requests([update]), draw, torch.get_num_threads())


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
