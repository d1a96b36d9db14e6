"""A step's parts, checked and ready to be done."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from rose_core import Hyperparameters
from rose_core.rounding import ComputeDtype
from rose_kernels import Kernel
from rose_torch.checks import Found

if TYPE_CHECKING:
    from rose_torch.parts import Part

__all__ = ["DrawnNoise", "PortableNoise", "Update", "Updates"]


class PortableNoise(NamedTuple):
    """What a parameter's portable noise is made from (ROSE-9.2)."""

    seed: int
    step: int
    index: int  # type: ignore[assignment]  # a tuple has a method of this name, which nobody calls here


class DrawnNoise(NamedTuple):
    """What a parameter's noise is drawn from: a generator, None for torch's own. `words` is what is drawn already."""

    generator: torch.Generator | None
    words: Tensor | None = None


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


class Updates(NamedTuple):
    """A group's part of a step, in columns of one entry a parameter where these differ; `parts` None is all whole."""

    params: Sequence[Tensor]
    grads: Sequence[Tensor]
    options: Hyperparameters
    factor: float
    found: Found
    noise: Sequence[PortableNoise | DrawnNoise | None]
    parts: "Sequence[Part | None] | None" = None

    def each(self) -> list[Update]:
        """Return the parameters' parts of the step one by one."""
        parts = [None] * len(self.params) if self.parts is None else self.parts
        columns = zip(self.params, self.grads, self.found.computes, self.noise, self.found.kernels, parts, strict=True)
        return [
            Update(param, grad, self.options, self.factor, compute, noise, kernel, part)
            for param, grad, compute, noise, kernel, part in columns
        ]
