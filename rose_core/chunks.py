"""The rule in place, over chunks of whole slices: the temporaries of a step stay as small as a chunk."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

from rose_core import rule
from rose_core.namespace import Array, array_namespace, quiet

__all__ = [
    "NoiseSource",
    "advance_in_place",
    "chunks_of_slices",
    "elements_of_chunk",
    "statistics_in_chunks",
    "update_in_place",
]

# On a CPU the temporaries of a chunk stay in the cache. On a GPU a chunk is large enough to be worth its launches.
_CPU_ELEMENTS: Final = 2**16
_GPU_ELEMENTS: Final = 2**24

NoiseSource = Callable[[int, int], Any]
"""Returns the noise words, in int32, of the elements from a start to before a stop of the flattened parameter."""


@quiet
def update_in_place(
    param: Array,
    grad: Array,
    options: rule.StepOptions,
    noise: NoiseSource | None = None,
    *,
    max_elements: int | None = None,
) -> None:
    """Overwrite a parameter by its values after a step. The gradient must not share its memory.

    The arguments are checked already. A chunk has at most `max_elements` elements, or one slice if that is longer.
    """
    if 0 in param.shape:
        return  # ROSE-1.4
    mean, range_ = statistics_in_chunks(grad, options, max_elements=max_elements)
    denominator = rule.denominators(range_, rule.gate_of_ranges(range_, options), options)
    advance_in_place(param, grad, mean, denominator, options, noise, max_elements=max_elements)


@quiet
def statistics_in_chunks(grad: Array, options: rule.StepOptions, *, max_elements: int | None = None) -> tuple[Any, Any]:
    """Return the means and the ranges of all slices, as `rule.statistics` returns them."""
    parts = [
        rule.statistics(rule.gradient(grad[index], options), options)
        for index, _, _ in chunks_of_slices(grad, max_elements)
    ]
    if len(parts) == 1:
        return parts[0]
    xp = array_namespace(grad)
    means, ranges = zip(*parts, strict=True)
    return None if means[0] is None else xp.concat(means), xp.concat(ranges)


@quiet
def advance_in_place(
    param: Array,
    grad: Array,
    mean: Any,
    denominator: Any,
    options: rule.StepOptions,
    noise: NoiseSource | None = None,
    *,
    max_elements: int | None = None,
) -> None:
    """Overwrite a parameter by the result of `rule.advance`, given the statistics of all slices."""
    for index, start, stop in chunks_of_slices(param, max_elements):
        x, g = param[index], rule.gradient(grad[index], options)
        words = None if noise is None else array_namespace(param).reshape(noise(start, stop), x.shape)
        chunk_mean, chunk_denominator = (None if y is None else y[index] for y in (mean, denominator))
        param[index] = rule.advance(x, g, chunk_mean, chunk_denominator, options, words)  # type: ignore[index]


def elements_of_chunk(x: Array) -> int:
    """Return how many elements a chunk of an array has at most by default."""
    return _CPU_ELEMENTS if str(x.device).startswith("cpu") else _GPU_ELEMENTS


def chunks_of_slices(x: Array, max_elements: int | None = None) -> Iterator[tuple[Any, int, int]]:
    """Yield the index of each chunk, and its start and stop in the flattened array.

    A chunk consists of whole slices. An array of rank 0 or 1 is one chunk, and one without elements has none.
    """
    if 0 in x.shape:
        return
    if x.ndim < 2:
        yield ..., 0, math.prod(x.shape)
        return
    max_elements = elements_of_chunk(x) if max_elements is None else max_elements
    length = math.prod(x.shape[1:])
    count = max(1, max_elements // length)
    for start in range(0, x.shape[0], count):
        stop = min(start + count, x.shape[0])
        yield (slice(start, stop), ...), start * length, stop * length
