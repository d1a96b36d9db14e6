"""A step's parts, checked and ready to be done, and their doing by the core."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from rose_core import Hyperparameters
from rose_core.alike import alike, lie_apart
from rose_core.blocks import updated_blocks
from rose_core.noise import noise_sources
from rose_core.rounding import ComputeDtype

__all__ = ["Checked", "Update", "run_by_core"]


class Checked(NamedTuple):
    """What the checks of a parameter and its gradient find."""

    compute: ComputeDtype
    stochastic: bool
    kernel: Any  # what a subclass found for it


class Update(NamedTuple):
    """One parameter's part of a step, checked and ready to be done.

    `noise` is what its portable noise is made from, the seed, the step and the index, and `kernel` what a subclass
    found for it in `_kernel_of`.
    """

    param: Any
    grad: Any
    options: Hyperparameters
    factor: float
    compute: ComputeDtype
    noise: tuple[Any, int, int] | None
    kernel: Any


def run_by_core(updates: Sequence[Update], addresses: Sequence[int]) -> None:
    """Update parameters by the core, block by block, those together that are alike.

    `addresses` are those of the parameters' first elements.
    """
    spans = [_span(update.param, address) for update, address in zip(updates, addresses, strict=True)]
    for together in alike(updates) if lie_apart(spans) else [[update] for update in updates]:
        _, _, options, factor, compute, *_ = together[0]
        params, grads = [update.param for update in together], [update.grad for update in together]
        noise = noise_sources([update.noise for update in together if update.noise is not None], like=params[0])
        for param, index, values in updated_blocks(params, grads, options, factor=factor, compute=compute, noise=noise):
            param[index] = values


def _span(array: Any, address: int) -> tuple[int, int]:
    """Return the addresses between which an array lies, whose first element is at one of them."""
    if array.size == 0:
        return address, address
    reach = [(length - 1) * stride for length, stride in zip(array.shape, array.strides, strict=True)]
    return address + sum(min(0, way) for way in reach), address + sum(max(0, way) for way in reach) + array.itemsize
