"""A step's parts, checked and ready to be done, and their doing by the core."""

from typing import Any, NamedTuple

from rose_core import Hyperparameters
from rose_core.blocks import updated_blocks
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


def run_by_core(update: Update) -> None:
    """Update a parameter by the core, block by block."""
    noise = None
    if update.noise is not None:
        seed, step, index = update.noise
        noise = noise_source(seed=seed, step=step, index=index, like=update.param)
    blocks = updated_blocks(
        update.param, update.grad, update.options, factor=update.factor, compute=update.compute, noise=noise
    )
    for place, values in blocks:
        update.param[place] = values
