"""A step's parts, checked and ready to be done, and their doing by the core."""

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

from rose_core import Hyperparameters
from rose_core.alike import alike
from rose_core.blocks import updated_blocks
from rose_core.noise import noise_of_many
from rose_core.overlap import Memory, Sharing, sharing
from rose_core.rounding import ComputeDtype

__all__ = ["Addresses", "Checked", "Reach", "Update", "reach_of", "run_by_core", "sharing_of", "with_gradients_apart"]


class Reach(NamedTuple):
    """How many bytes an array takes, and how many of them lie before its first element."""

    extent: int
    before: int


class Checked(NamedTuple):
    """What the checks of a parameter and its gradient find."""

    compute: ComputeDtype
    stochastic: bool
    kernel: Any  # what a subclass found for it
    param_reach: Reach
    grad_reach: Reach


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
    param_reach: Reach
    grad_reach: Reach


class Addresses(NamedTuple):
    """Where the first elements of the parameters and of the gradients of some updates are."""

    params: Sequence[int]
    grads: Sequence[int]

    def at(self, places: Sequence[int]) -> "Addresses":
        """Return those of some of the updates."""
        return Addresses([self.params[place] for place in places], [self.grads[place] for place in places])


def reach_of(array: Any) -> Reach:
    """Return the reach of an array."""
    if array.size == 0:
        return Reach(0, 0)
    ways = [(length - 1) * stride for length, stride in zip(array.shape, array.strides, strict=True)]
    return Reach(sum(map(abs, ways)) + array.itemsize, -sum(way for way in ways if way < 0))


def sharing_of(updates: Sequence[Update], addresses: Addresses) -> Sharing:
    """Return the places of the parameters and the gradients that share memory."""
    params = _memory(addresses.params, [update.param_reach for update in updates])
    return sharing(params, _memory(addresses.grads, [update.grad_reach for update in updates]))


def with_gradients_apart(updates: Sequence[Update], places: Sequence[int]) -> Sequence[Update]:
    """Return the updates with copies of the gradients at some places, which lie in a parameter's memory.

    They would change with it before their own turn. The core takes the copies, which may lie in another order; their
    addresses are asked for no more.
    """
    separate = list(updates)
    for place in places:
        separate[place] = updates[place]._replace(grad=updates[place].grad.copy(), kernel=None)
    return separate


def run_by_core(updates: Sequence[Update]) -> None:
    """Update parameters that lie apart by the core, block by block, those together that are alike."""
    for together in alike(updates):
        _, _, options, factor, compute, *_ = together[0]
        params, grads = [update.param for update in together], [update.grad for update in together]
        names = [update.noise for update in together if update.noise is not None]
        noise = noise_of_many(names, like=params[0]) if names else None
        for param, index, values in updated_blocks(params, grads, options, factor=factor, compute=compute, noise=noise):
            param[index] = values


def _memory(addresses: Sequence[int], reaches: Sequence[Reach]) -> Memory:
    extents, before = zip(*reaches, strict=True) if reaches else ((), ())
    return tuple(map(operator.sub, addresses, before)), extents
