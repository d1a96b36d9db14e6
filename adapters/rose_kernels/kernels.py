"""The updates of one optimizer by kernels: requests of a step, sorted by kind into batches that stay."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from rose_core.noise import noise_keys
from rose_kernels import tables
from rose_kernels.layout import Kernel, Kind

__all__ = ["Kernels", "Requests"]

# Parameters that have no gradient in some steps make other batches; so many stay.
_KEPT_BATCHES: Final = 256


class Requests(NamedTuple):
    """Parts of a step that are checked, one parameter's at each place of the lists."""

    kernels: Sequence[Kernel]
    params: Sequence[int]  # addresses
    grads: Sequence[int]
    rates: Sequence[float]  # lr
    factors: Sequence[float]  # of the decay
    negated: Sequence[bool]  # maximize
    noise: Sequence[tuple[int, int, int] | None]  # seed, step and index of portable noise


class Kernels:
    """Compiled updates, with the tables that are built once for each set of tensors."""

    def __init__(self) -> None:
        self._batches: dict[tuple[Kernel, ...], Any] = {}
        self._last: dict[Kind, tuple[tuple[Kernel, ...], Any]] = {}
        self._prepared: set[Kind] = set()

    def __reduce__(self) -> tuple[Any, ...]:
        return Kernels, ()  # a copy makes tables of its own

    def prepare(self, kinds: Iterable[Kind]) -> None:
        """Compile for these kinds, or find what was compiled before, so that nothing can fail once a step writes."""
        if new := set(kinds) - self._prepared:
            from rose_kernels.batch import Batch  # noqa: PLC0415  (it loads Numba, which is optional and slow to load)

            for kind in new:
                Batch((), *kind)
            self._prepared |= new

    def run(self, requests: Requests, threads: int) -> None:
        """Update all parameters."""
        kinds = {kernel.kind for kernel in requests.kernels}
        batches = [self._batch(kind, requests if len(kinds) == 1 else _of_kind(requests, kind)) for kind in kinds]
        for batch in batches:
            batch.run(threads)

    def run_drawing(self, requests: Requests, draw: Callable[[int, int], tuple[int, Any]], threads: int) -> None:
        """Update the one parameter requested with noise that `draw` draws (`Batch.run_drawing`)."""
        batch = self._batch(requests.kernels[0].kind, requests)
        batch.tensors["noise"] = tables.DRAWN
        batch.run_drawing(draw, threads)

    def _batch(self, kind: Kind, requests: Requests) -> Any:
        """Return the batch of these tensors, set to this step."""
        batch = self._found(kind, tuple(requests.kernels))
        tensors = batch.tensors
        tensors["param"], tensors["grad"] = requests.params, requests.grads
        tensors["rate"], tensors["decay"] = np.negative(requests.rates), requests.factors
        tensors["negated"] = requests.negated
        tensors["noise"] = [tables.NEAREST if own is None else tables.PORTABLE for own in requests.noise]
        if tensors["noise"].any():
            sources = [own or (0, 0, 0) for own in requests.noise]
            tensors["key0"], tensors["key1"] = noise_keys(*zip(*sources, strict=True))
        return batch

    def _found(self, kind: Kind, kernels: tuple[Kernel, ...]) -> Any:
        """Return the batch for kernels of a kind, which is that of the last step as a rule."""
        last = self._last.get(kind)
        if last is not None and last[0] == kernels:  # mostly the same objects, which is quicker to see than a hash
            return last[1]
        batch = self._batches.get(kernels)
        if batch is None:
            from rose_kernels.batch import Batch  # noqa: PLC0415  (see `prepare`)

            if len(self._batches) >= _KEPT_BATCHES:
                del self._batches[next(iter(self._batches))]
            batch = self._batches[kernels] = Batch([kernel.layout for kernel in kernels], *kind)
        self._last[kind] = kernels, batch
        return batch


def _of_kind(requests: Requests, kind: Kind) -> Requests:
    """Return those of the requests that are of one kind."""
    places = [place for place, kernel in enumerate(requests.kernels) if kernel.kind == kind]
    columns: Iterable[Any] = ([column[place] for place in places] for column in requests)
    return Requests(*columns)
