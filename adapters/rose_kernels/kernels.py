"""The kernels of one optimizer: launches, divided by kind and matched to plans that are built once."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple

import numpy as np

from rose_core.noise import NoiseKey, noise_keys
from rose_kernels.layout import Kernel, Kind
from rose_kernels.parallel import tables
from rose_kernels.parallel.threads import Threads
from rose_kernels.readiness import is_ready

__all__ = ["Kernels", "Launch"]

# Each set of parameters that have gradients needs its plans. Plans are cached for this many sets.
_CACHED_SETS: Final = 256
# A smaller parameter counts as this many elements, since the core takes a while for any.
_SMALL: Final = 2**12
_parts_of_key: Final = attrgetter("seed", "step", "index")
_NO_KEY: Final = NoiseKey(0, 0, 0)  # of a parameter that is rounded to nearest


class Launch(NamedTuple):
    """The arguments of one launch: columns with one entry for each parameter. The caller has checked them.

    Attributes
    ----------
    kernels : the kernel of each parameter.
    params, grads : addresses.
    lr, decay, maximize, limit : the options of each parameter. `decay` is the factor of the weight decay, and `limit`
        the largest change of an element.
    noise : the key of the portable noise (ROSE-9.2), or None to round to nearest.
    drawn_noise : addresses of int32 noise words that were drawn before; replaces `noise` if given.
    """

    kernels: Sequence[Kernel]
    params: Sequence[int] | np.ndarray
    grads: Sequence[int] | np.ndarray
    lr: Sequence[float] | np.ndarray
    decay: Sequence[float] | np.ndarray
    maximize: Sequence[bool] | np.ndarray
    limit: Sequence[float] | np.ndarray
    noise: Sequence[NoiseKey | None]
    drawn_noise: Sequence[int] | None = None

    def at(self, indices: Sequence[int]) -> "Launch":
        """Return a launch of the parameters at these indices."""
        columns: Iterable[Any] = (column if column is None else [column[index] for index in indices] for column in self)
        return Launch(*columns)


_Planned = tuple[Any, list[int]]
"""A plan, and the indices of its parameters in the launch."""


class Kernels:
    """The compiled kernels of an optimizer, and the plans of its launches."""

    def __init__(self) -> None:
        self._plans: dict[tuple[Kernel, ...], list[_Planned]] = {}
        self._last: tuple[tuple[Kernel, ...], list[_Planned]] = (), []
        self._ready_last: Sequence[Kernel | None] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return Kernels, ()  # a copy builds new plans

    def ready(self, kernels: Sequence[Kernel | None], *, demanded: bool) -> Sequence[Kernel | None]:
        """Return the kernels that can run at this step, and None in place of others; see `readiness`.

        A launch of these cannot fail halfway through a step, because they are compiled. If `demanded`, all are.
        """
        if kernels == self._ready_last:  # fast, since the elements are mostly the same objects
            return kernels
        elements: Counter[Kind] = Counter()
        for kernel in kernels:
            if kernel is not None:
                elements[kernel.kind] += max(kernel.layout.size, _SMALL)
        waiting = {kind for kind, count in elements.items() if not is_ready(kind, count, demanded=demanded)}
        if waiting:
            return [None if kernel is None or kernel.kind in waiting else kernel for kernel in kernels]
        self._ready_last = kernels
        return kernels

    def run(self, launch: Launch, threads: Threads) -> None:
        """Update all parameters of a launch."""
        planned = self._planned(tuple(launch.kernels))
        for plan, indices in planned:
            _set(plan, launch if len(planned) == 1 else launch.at(indices))
        for plan, _ in planned:
            plan.run(threads)

    def run_drawing(self, launch: Launch, draw: Callable[[int, int], tuple[int, Any]], threads: Threads) -> None:
        """Update the only parameter of a launch with noise that `draw` returns (see `LaunchPlan.run_drawing`)."""
        ((plan, _),) = self._planned(tuple(launch.kernels))
        _set(plan, launch)
        plan.tensors["noise"] = tables.DRAWN
        plan.run_drawing(draw, threads)

    def _planned(self, kernels: tuple[Kernel, ...]) -> list[_Planned]:
        """Return one plan for each kind of these kernels. Mostly they are the same kernels as in the last launch."""
        if kernels == self._last[0]:
            return self._last[1]
        planned = self._plans.get(kernels)
        if planned is None:
            if len(self._plans) >= _CACHED_SETS:
                del self._plans[next(iter(self._plans))]
            planned = self._plans[kernels] = _plans_of(kernels)
        self._last = kernels, planned
        return planned


def _plans_of(kernels: Sequence[Kernel]) -> list[_Planned]:
    """Return new plans, one for each kind."""
    from rose_kernels.parallel.plan import LaunchPlan  # noqa: PLC0415  (it loads Numba: optional, and slow to load)

    by_kind: dict[Kind, list[int]] = {}
    for index, kernel in enumerate(kernels):
        by_kind.setdefault(kernel.kind, []).append(index)
    return [(LaunchPlan([kernels[i].layout for i in indices], kind), indices) for kind, indices in by_kind.items()]


def _set(plan: Any, launch: Launch) -> None:
    """Write the arguments of a launch to the table of its plan."""
    tensors = plan.tensors
    tensors["param"], tensors["grad"] = launch.params, launch.grads
    tensors["negative_lr"], tensors["decay"] = np.negative(launch.lr), launch.decay
    tensors["maximize"], tensors["limit"] = launch.maximize, launch.limit
    if launch.drawn_noise is not None:
        tensors["noise"], tensors["noise_address"], tensors["noise_start"] = tables.DRAWN, launch.drawn_noise, 0
        return
    tensors["noise"] = tables.NEAREST
    if any(launch.noise):
        tensors["noise"] = [tables.NEAREST if key is None else tables.PORTABLE for key in launch.noise]
        keys = [key or _NO_KEY for key in launch.noise]
        tensors["key0"], tensors["key1"] = noise_keys(*zip(*map(_parts_of_key, keys), strict=True))
