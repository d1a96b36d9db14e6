"""Rounding noise that is the same everywhere: counter-based words of Threefry-2x32 (ROSE-9).

Threefry is by Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
A word depends on the seed, the step, the parameter and the element's position alone, so a shard computes
its own, the memory layout does not matter, and a resumed run continues exactly.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, SupportsIndex

import numpy as np

from rose_core.hyperparameters import unsigned
from rose_core.namespace import (
    Array,
    array_namespace,
    as_array_beside,
    as_light_array,
    device,
    dtype_name,
    half_words,
    require_array,
    sent_beside,
    to_words,
)

__all__ = ["Name", "noise_at", "noise_keys", "noise_of_many", "noise_source", "noise_words", "threefry2x32"]

_ROUNDS: Final = 20
_ROTATIONS: Final = (13, 15, 26, 6, 17, 29, 16, 24)
_PARITY: Final = 0x1BD11BDA
_MASK: Final = 0xFFFFFFFF

Name = tuple[SupportsIndex, SupportsIndex, SupportsIndex]
"""The seed, the step and the index that noise is made from."""


def noise_words(
    shape: Sequence[SupportsIndex], *, seed: SupportsIndex, step: SupportsIndex, index: SupportsIndex, like: Array
) -> Any:
    """Return the portable noise of one parameter at one step, to pass to `update` or `round_to_bfloat16`.

    Parameters
    ----------
    shape : sequence of int
        Shape of the whole parameter.
    seed : int
        Seed of the run, in [0, 2**64).
    step : int
        How many steps with ``lr != 0`` came before, in [0, 2**32).
    index : int
        Position of the parameter among all parameters of the optimizer, in [0, 2**32).
    like : array
        An array of the library and on the device that the words are wanted in.

    Returns
    -------
    array of int32
        Words in [0, 2**16), uniform and independent.

    Raises
    ------
    TypeError
        If a number is not an integer, or `like` is not an array.
    ValueError
        If a number is out of range.

    Notes
    -----
    ROSE-9.1 to ROSE-9.3. The words are held as int32, since torch's uint16 has no arithmetic.

    Examples
    --------
    >>> import numpy as np
    >>> noise_words((3,), seed=0, step=0, index=0, like=np.empty(0)).tolist()
    [33554, 63566, 25843]
    """
    lengths = _lengths(shape)
    words = noise_source(seed=seed, step=step, index=index, like=like)(0, math.prod(lengths))
    return array_namespace(like).reshape(words, tuple(lengths))


def noise_source(
    *, seed: SupportsIndex, step: SupportsIndex, index: SupportsIndex, like: Array
) -> Callable[[int, int], Any]:
    """Return what gives the words of a range of the flattened parameter; the arguments are those of `noise_words`."""
    words_of, xp = noise_of_many([(seed, step, index)], like=like), array_namespace(like)
    return lambda start, stop: xp.reshape(words_of(slice(0, 1), start, stop), (-1,))


def noise_of_many(names: Sequence[Name], *, like: Array) -> Callable[[slice, int, int], Any]:
    """Return what gives the words of a range of some flattened parameters, one row for each.

    The slice says of which of those that have the seed, the step and the index of a name.
    """
    keys, empty = _keys(names), _light_empty(like)

    def words_of(own: slice, start: int, stop: int) -> Any:
        xp, first = array_namespace(empty), start // 4
        numbers = xp.arange(first, -(-stop // 4), dtype=xp.int64, device=device(empty))
        blocks = _cipher(keys[own], empty)(numbers)
        words = xp.reshape(half_words(xp.stack(blocks, axis=-1)), (own.stop - own.start, -1))
        return as_array_beside(words[:, start - 4 * first : stop - 4 * first], like)

    return words_of


def noise_at(*, seed: SupportsIndex, step: SupportsIndex, index: SupportsIndex, like: Array) -> Callable[[Array], Any]:
    """Return what gives the words at places, in int64, of the flattened parameter; see `noise_words`."""
    blocks, xp = _cipher(_keys([(seed, step, index)]), like), array_namespace(like)

    def words_at(places: Array) -> Any:
        x0, x1 = (x[0, ...] for x in blocks(places >> 2))
        word = xp.where((places & 2) == 0, x0, x1)
        return xp.astype(xp.where((places & 1) == 0, word, word >> 16) & 0xFFFF, xp.int32)

    return words_at


def _light_empty(like: Array) -> Any:
    """Return an empty array of the library to make words with: on the CPU NumPy, faster up to some threads."""
    require_array(like, "like")
    xp = array_namespace(like)
    return as_light_array(xp.empty((0,), dtype=xp.int64, device=device(like)))


def _keys(names: Sequence[Name]) -> np.ndarray:
    """Return the two words of the key of each seed, step and index, a row each."""
    seeds = [unsigned("seed", seed, bits=64) for seed, _, _ in names]
    steps = [unsigned("step", step, bits=32) for _, step, _ in names]
    indices = [unsigned("index", index, bits=32) for _, _, index in names]
    return np.stack(noise_keys(seeds, steps, indices), axis=-1)


def _cipher(keys: np.ndarray, like: Array) -> Callable[[Array], tuple[Any, Any]]:
    """Return what gives the two words of the blocks of these numbers, in int64, in a row for each key (ROSE-9.3)."""
    columns = np.split(keys.astype(np.int64), 2, axis=1)
    key0, key1 = (to_words(sent_beside(column, like)) for column in columns)
    return lambda numbers: threefry2x32((key0, key1), (to_words(numbers & _MASK), to_words(numbers >> 32)))


def noise_keys(seeds: Sequence[int], steps: Sequence[int], indices: Sequence[int]) -> tuple[Any, Any]:
    """Return the two words of the key of each of some parameters at their steps, in uint32 (ROSE-9.2)."""
    seed = np.asarray(seeds, dtype=np.uint64)
    low, high = seed.astype(np.uint32), (seed >> np.uint64(32)).astype(np.uint32)
    return threefry2x32((low, high), (np.asarray(steps, dtype=np.uint32), np.asarray(indices, dtype=np.uint32)))


def _lengths(shape: Sequence[SupportsIndex]) -> list[int]:
    if not isinstance(shape, Sequence):
        raise TypeError(f"shape must be a sequence of integers, got {shape!r}")
    return [unsigned("shape", length, bits=63) for length in shape]


def threefry2x32(key: tuple[Any, Any], counter: tuple[Any, Any]) -> tuple[Any, Any]:
    """Encrypt counters with a key, all arrays of 32-bit integers whose sums wrap (ROSE-9.1)."""
    keys = (*key, key[0] ^ key[1] ^ _PARITY)
    x0, x1 = counter[0] + keys[0], counter[1] + keys[1]
    signed = dtype_name(x1).startswith("int")
    for number in range(_ROUNDS):
        x0 += x1
        x1 = _rotated_left(x1, _ROTATIONS[number % 8], signed=signed)
        x1 ^= x0
        if number % 4 == 3:
            injection = number // 4 + 1
            x0 += keys[injection % 3]
            x1 += keys[(injection + 1) % 3] + injection
    return x0, x1


def _rotated_left(x: Any, distance: int, *, signed: bool) -> Any:
    """Rotate 32-bit words, which are written over; a mask takes away the sign that a signed shift brings in."""
    above = x << distance
    x >>= 32 - distance
    if signed:
        x &= (1 << distance) - 1
    x |= above
    return x
