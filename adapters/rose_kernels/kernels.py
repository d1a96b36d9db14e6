"""The updates of one optimizer by kernels: requests of a step, sorted by kind into batches that stay."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from rose_core.noise import noise_keys
from rose_kernels.layout import Kernel, Kind
from rose_kernels.parallel import tables
from rose_kernels.parallel.threads import Threads

__all__ = ["Kernels", "Requests"]

# Parameters that have no gradient in some steps make other batches; so many stay.
_KEPT_BATCHES: Final = 256


class Requests(NamedTuple):
    """Parts of a step that are checked, one parameter's at each place of the columns."""

    kernels: Sequence[Kernel]
    params: Sequence[int]  # addresses
    grads: Sequence[int]
    rates: Sequence[float] | np.ndarray  # lr
    factors: Sequence[float] | np.ndarray  # of the decay
    negated: Sequence[bool] | np.ndarray  # maximize
    noise: Sequence[tuple[int, int, int] | None]  # seed, step and index of portable noise
    words: Sequence[int] | None = None  # addresses of drawn words, which stand for `noise` where they are given

    def at(self, places: Sequence[int]) -> "Requests":
        """Return those of some places."""
        columns: Iterable[Any] = (column if column is None else [column[place] for place in places] for column in self)
        return Requests(*columns)


_Part = tuple[Any, list[int]]
"""A batch, and the places of its tensors among all."""


class Kernels:
    """Compiled updates, with the tables that are built once for each set of tensors."""

    def __init__(self) -> None:
        self._batches: dict[tuple[Kernel, ...], list[_Part]] = {}
        self._last: tuple[tuple[Kernel, ...], list[_Part]] = (), []
        self._prepared: set[Kind] = set()
        self._prepared_last: Sequence[Kernel | None] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return Kernels, ()  # a copy makes tables of its own

    def prepare(self, kernels: Sequence[Kernel | None]) -> None:
        """Compile these kernels, or find what was compiled before, so that nothing can fail once a step writes."""
        if kernels == self._prepared_last:  # mostly the same objects, which is quick to see
            return
        if new := {kernel.kind for kernel in kernels if kernel is not None} - self._prepared:
            from rose_kernels.parallel.plan import Batch  # noqa: PLC0415  (it loads Numba, which is optional and slow to load)

            for kind in new:
                Batch((), *kind)
            self._prepared |= new
        self._prepared_last = kernels

    def run(self, requests: Requests, threads: Threads) -> None:
        """Update all parameters."""
        parts = self._parts(tuple(requests.kernels))
        for batch, places in parts:
            _set(batch, requests if len(parts) == 1 else requests.at(places))
        for batch, _ in parts:
            batch.run(threads)

    def run_drawing(self, requests: Requests, draw: Callable[[int, int], tuple[int, Any]], threads: Threads) -> None:
        """Update the one parameter requested with noise that `draw` draws (`Batch.run_drawing`)."""
        ((batch, _),) = self._parts(tuple(requests.kernels))
        _set(batch, requests)
        batch.tensors["noise"] = tables.DRAWN
        batch.run_drawing(draw, threads)

    def _parts(self, kernels: tuple[Kernel, ...]) -> list[_Part]:
        """Return the batches of some kernels, one for each kind; they are those of the last step as a rule."""
        if kernels == self._last[0]:
            return self._last[1]
        parts = self._batches.get(kernels)
        if parts is None:
            from rose_kernels.parallel.plan import Batch  # noqa: PLC0415  (see `prepare`)

            places: dict[Kind, list[int]] = {}
            for place, kernel in enumerate(kernels):
                places.setdefault(kernel.kind, []).append(place)
            parts = [(Batch([kernels[place].layout for place in own], *kind), own) for kind, own in places.items()]
            if len(self._batches) >= _KEPT_BATCHES:
                del self._batches[next(iter(self._batches))]
            self._batches[kernels] = parts
        self._last = kernels, parts
        return parts


def _set(batch: Any, requests: Requests) -> None:
    """Set a batch to this step."""
    tensors = batch.tensors
    tensors["param"], tensors["grad"] = requests.params, requests.grads
    tensors["negative_lr"], tensors["decay"] = np.negative(requests.rates), requests.factors
    tensors["maximize"] = requests.negated
    if requests.words is not None:
        tensors["noise"], tensors["noise_address"], tensors["noise_start"] = tables.DRAWN, requests.words, 0
        return
    tensors["noise"] = [tables.NEAREST if own is None else tables.PORTABLE for own in requests.noise]
    if tensors["noise"].any():
        sources = [own or (0, 0, 0) for own in requests.noise]
        tensors["key0"], tensors["key1"] = noise_keys(*zip(*sources, strict=True))
