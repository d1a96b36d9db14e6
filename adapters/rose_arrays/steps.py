"""A step's parts, checked and ready to be done, and their doing by the core."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from rose_core import Hyperparameters
from rose_core.alike import alike
from rose_core.blocks import NoiseSource, updated_blocks
from rose_core.noise import noise_source
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


def run_by_core(updates: Sequence[Update]) -> None:
    """Update parameters by the core, block by block, those together that are alike."""
    for together in alike(updates, [_span(update.param) for update in updates]):
        _, _, options, factor, compute, *_ = together[0]
        noise = [_noise_source(update) for update in together if update.noise is not None]
        params, grads = [update.param for update in together], [update.grad for update in together]
        for param, index, values in updated_blocks(params, grads, options, factor=factor, compute=compute, noise=noise):
            param[index] = values


def _noise_source(update: Update) -> NoiseSource:
    seed, step, index = update.noise  # type: ignore[misc]  # only who has noise is asked
    return noise_source(seed=seed, step=step, index=index, like=update.param)


def _span(array: Any) -> tuple[int, int]:
    """Return the addresses between which an array lies."""
    on_gpu = getattr(array, "__cuda_array_interface__", None)
    start = stop = (on_gpu or array.__array_interface__)["data"][0]
    if array.size == 0:
        return start, start
    for length, stride in zip(array.shape, array.strides, strict=True):
        start, stop = start + min(0, (length - 1) * stride), stop + max(0, (length - 1) * stride)
    return start, stop + array.itemsize
