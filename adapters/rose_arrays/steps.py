"""A step's parts, checked and ready to be done, and their doing by the core."""

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rose_core import Hyperparameters
from rose_core.alike import alike
from rose_core.blocks import updated_blocks
from rose_core.noise import Name, noise_of_many
from rose_core.overlap import Memory, Sharing, sharing
from rose_core.rounding import ComputeDtype

__all__ = [
    "Addresses",
    "Found",
    "Given",
    "Reaches",
    "Updates",
    "reaches_of",
    "run_by_core",
    "sharing_of",
    "with_gradients_apart",
]


class Given(NamedTuple):
    """What of a group has a gradient in a step; `first` is the index of the group's first parameter."""

    group: Mapping[str, Any]
    options: Hyperparameters
    factor: float
    first: int
    places: Sequence[int]
    params: Sequence[Any]
    grads: Sequence[Any]

    def chosen(self) -> tuple[Any, ...]:
        """Return the options that the checks look at, and for how many parameters they hold."""
        own = self.options
        return own.centralize, own.stabilize, own.bf16_sr, own.compute_dtype, len(self.places)

    def names_of_noise(self) -> Iterator[Name]:
        """Return what the noise of each parameter would be made from."""
        seed: Any = self.options.sr_seed  # never None here
        return ((seed, self.group["step"], self.first + place) for place in self.places)


class Reaches(NamedTuple):
    """How many bytes some arrays take, and how many of these lie before the first element of each."""

    extents: tuple[int, ...]
    befores: tuple[int, ...]


class Found(NamedTuple):
    """What the checks of a step find, one entry a parameter in each column."""

    computes: Sequence[ComputeDtype]
    stochastic: Sequence[bool]
    kernels: Sequence[Any]  # what a subclass found in `_kernel_of`
    param_reaches: Reaches
    grad_reaches: Reaches


class Update(NamedTuple):
    """One parameter's part of a step."""

    param: Any
    grad: Any
    options: Hyperparameters
    factor: float
    compute: ComputeDtype
    noise: Name | None


class Updates(NamedTuple):
    """A step, checked and ready to be done, one entry a parameter in each column."""

    params: Sequence[Any]
    grads: Sequence[Any]
    options: Sequence[Hyperparameters]
    factors: Sequence[float]
    noise: Sequence[Name | None]
    found: Found

    def at(self, places: Sequence[int]) -> list[Update]:
        """Return the parts at some places one by one."""
        computes = self.found.computes
        return [
            Update(
                self.params[place],
                self.grads[place],
                self.options[place],
                self.factors[place],
                computes[place],
                self.noise[place],
            )
            for place in places
        ]


class Addresses(NamedTuple):
    """Where the first elements of the parameters and of the gradients of a step are."""

    params: Sequence[int]
    grads: Sequence[int]


def reaches_of(arrays: Sequence[Any]) -> Reaches:
    """Return how far arrays reach from their first elements."""
    extents, befores = [], []
    for array in arrays:
        ways = [(length - 1) * stride for length, stride in zip(array.shape, array.strides, strict=True)]
        extents.append(sum(map(abs, ways)) + array.itemsize if array.size else 0)
        befores.append(-sum(way for way in ways if way < 0) if array.size else 0)
    return Reaches(tuple(extents), tuple(befores))


def sharing_of(found: Found, addresses: Addresses) -> Sharing:
    """Return the places of the parameters and the gradients that share memory."""
    return sharing(_memory(addresses.params, found.param_reaches), _memory(addresses.grads, found.grad_reaches))


def with_gradients_apart(updates: Updates, places: Sequence[int]) -> Updates:
    """Return the updates with copies of the gradients at some places, which lie in a parameter's memory.

    They would change with it before their own turn. The core takes the copies, which may lie in another order; their
    addresses are asked for no more.
    """
    if not places:
        return updates
    grads, kernels = list(updates.grads), list(updates.found.kernels)
    for place in places:
        grads[place], kernels[place] = grads[place].copy(), None
    return updates._replace(grads=grads, found=updates.found._replace(kernels=kernels))


def run_by_core(updates: Sequence[Update]) -> None:
    """Update parameters that lie apart by the core, block by block, those together that are alike."""
    for together in alike(updates):
        _, _, options, factor, compute, _ = together[0]
        params, grads = [update.param for update in together], [update.grad for update in together]
        names = [update.noise for update in together if update.noise is not None]
        noise = noise_of_many(names, like=params[0]) if names else None
        for param, index, values in updated_blocks(params, grads, options, factor=factor, compute=compute, noise=noise):
            param[index] = values


def _memory(addresses: Sequence[int], reaches: Reaches) -> Memory:
    return tuple(map(operator.sub, addresses, reaches.befores)), reaches.extents
