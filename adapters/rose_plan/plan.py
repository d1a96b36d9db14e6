"""A planned step: its updates are checked, and no parameter is written yet."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any, TypeVar

import numpy as np

from rose_core import Hyperparameters
from rose_core.chunks import NoiseSource, update_in_place
from rose_core.noise import NoiseKey
from rose_core.rule import StepOptions
from rose_kernels import Kernels, Launch
from rose_plan.cache import Checked

__all__ = ["Group", "Plan", "Update", "update_by_core"]

PlanT = TypeVar("PlanT", bound="Plan")


@dataclass(frozen=True)
class Group:
    """The options that parameters of a plan have in common, and how many parameters in turn they hold for.

    `fused` is True if their kernels are demanded.
    """

    options: Hyperparameters
    decay: float
    size: int
    fused: bool | None

    @property
    def largest_change(self) -> float:
        """The largest change of an element, infinity if it is not limited (ROSE-6.4)."""
        limit = self.options.limit
        return math.inf if limit is None else limit * self.options.lr


@dataclass(frozen=True)
class Update:
    """The planned update of one parameter; `noise` says where its rounding noise comes from, None without noise."""

    param: Any
    grad: Any
    options: StepOptions
    noise: Any


@dataclass(frozen=True)
class Plan:
    """A planned step, in columns of one entry for each parameter with a gradient.

    `name` returns the name of the parameter at a position of the plan.
    """

    params: Sequence[Any]
    grads: Sequence[Any]
    groups: Sequence[Group]
    checked: Checked
    noise: Sequence[Any] = ()
    name: Callable[[int], str] = str

    def update(self, position: int) -> Update:
        """Return the update of one parameter."""
        group = self._group_of[position]
        options = group.options
        step = StepOptions(
            lr=options.lr,
            decay=group.decay,
            centralize=options.centralize,
            stabilize=options.stabilize,
            maximize=options.maximize,
            compute=self.checked.computes[position],
            max_step=options.limit,
        )
        return Update(self.params[position], self.grads[position], step, self.noise[position])

    def with_gradients(self: PlanT, grads: Mapping[int, Any]) -> PlanT:
        """Return the plan with other gradients at some positions, whose updates the core runs."""
        if not grads:
            return self
        kernels = [None if i in grads else kernel for i, kernel in enumerate(self.checked.kernels)]
        checked = replace(self.checked, kernels=kernels)
        return replace(self, grads=[grads.get(i, grad) for i, grad in enumerate(self.grads)], checked=checked)

    def with_ready_kernels(self: PlanT, kernels: Kernels) -> PlanT:
        """Return the plan with the core in place of kernels that are not compiled yet."""
        ready = kernels.ready(self.checked.kernels, demanded=any(group.fused for group in self.groups))
        if ready is self.checked.kernels:
            return self
        return replace(self, checked=replace(self.checked, kernels=ready))

    def launch(
        self, param_addresses: np.ndarray, grad_addresses: np.ndarray, positions: Sequence[int] | None = None
    ) -> Launch:
        """Return the arguments of the kernels for the parameters at some positions, None for all of them."""
        values = [(g.options.lr, g.decay, g.options.maximize, g.largest_change) for g in self.groups]
        sizes = [group.size for group in self.groups]
        rates, decays, maximize, limits = np.asarray(values, np.float64).reshape(-1, 4).repeat(sizes, axis=0).T
        noise = self.noise
        if any(noise):
            noise = [key if isinstance(key, NoiseKey) else None for key in noise]
        launch = Launch(
            kernels=self.checked.kernels,  # type: ignore[arg-type]  # none is None at the positions of a launch
            params=param_addresses,
            grads=grad_addresses,
            lr=rates,
            decay=decays,
            maximize=maximize != 0.0,
            limit=limits,
            noise=noise,
        )
        return launch if positions is None or len(positions) == len(self.params) else launch.at(positions)

    @cached_property
    def _group_of(self) -> list[Group]:
        return list(chain.from_iterable([group] * group.size for group in self.groups))


def update_by_core(update: Update, noise: NoiseSource | None) -> None:
    """Run an update by `rose_core`, in chunks."""
    update_in_place(update.param, update.grad, update.options, noise)
