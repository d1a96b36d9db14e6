"""Portable rounding noise: counter-based words of Threefry-2x32 (ROSE-9).

Threefry is by Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
A word depends only on the seed, the step, the index of the parameter and the position of the element. A shard can
therefore compute its own words, the memory layout does not matter, and a resumed run continues exactly.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, SupportsIndex

import numpy as np

from rose_core.hyperparameters import unsigned
from rose_core.namespace import Array, array_namespace, quiet, require_array, right_shifted, to_word, to_words

__all__ = ["NoiseKey", "noise_at", "noise_in_range", "noise_keys", "noise_words", "threefry2x32"]

_ROUNDS: Final = 20
_ROTATIONS: Final = (13, 15, 26, 6, 17, 29, 16, 24)
_PARITY: Final = 0x1BD11BDA
_MASK: Final = 0xFFFFFFFF


@dataclass(slots=True)  # not frozen, which would triple the time to make the keys of many parameters
class NoiseKey:
    """The numbers that the noise of one parameter at one step is derived from (ROSE-9.2); see `noise_words`."""

    seed: int
    step: int
    index: int


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
        Number of earlier steps with ``lr != 0``, in [0, 2**32).
    index : int
        Index of the parameter among all parameters of the optimizer, in [0, 2**32).
    like : array
        An array of the library, and on the to return the words in.

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
    ROSE-9.1 to ROSE-9.3. The words are int32, since torch's uint16 has no arithmetic.

    Examples
    --------
    >>> import numpy as np
    >>> noise_words((3,), seed=0, step=0, index=0, like=np.empty(0)).tolist()
    [33554, 63566, 25843]
    """
    if not isinstance(shape, Sequence):
        raise TypeError(f"shape must be a sequence of integers, got {shape!r}")
    lengths = tuple(unsigned("shape", length, bits=63) for length in shape)
    key = NoiseKey(unsigned("seed", seed, bits=64), unsigned("step", step, bits=32), unsigned("index", index, bits=32))
    require_array(like, "like")
    return array_namespace(like).reshape(noise_in_range(key, 0, math.prod(lengths), like=like), lengths)


def noise_in_range(key: NoiseKey, start: int, stop: int, *, like: Array) -> Any:
    """Return the words of the elements from `start` to before `stop` of the flattened parameter."""
    xp, first = array_namespace(like), start // 4
    numbers = xp.arange(first, -(-stop // 4), dtype=xp.int64, device=like.device)
    x0, x1 = _cipher_blocks(key, numbers)
    words = xp.reshape(xp.stack((x0, x0 >> 16, x1, x1 >> 16), axis=-1), (-1,))
    return _lower_halves(words[start - 4 * first : stop - 4 * first])


def noise_at(key: NoiseKey, positions: Array) -> Any:
    """Return the words of the elements at some positions, in int64, of the flattened parameter."""
    xp = array_namespace(positions)
    x0, x1 = _cipher_blocks(key, positions >> 2)
    word = xp.where((positions & 2) == 0, x0, x1)
    return _lower_halves(xp.where((positions & 1) == 0, word, word >> 16))


def _lower_halves(words: Array) -> Any:
    xp = array_namespace(words)
    return xp.astype(words & 0xFFFF, xp.int32)


def _cipher_blocks(key: NoiseKey, numbers: Array) -> tuple[Any, Any]:
    """Return the two words of each block, given the numbers of the blocks in int64 (ROSE-9.3)."""
    words = [to_word(int(word), numbers) for word in noise_keys(key.seed, key.step, key.index)]
    return threefry2x32((words[0], words[1]), (to_words(numbers & _MASK), to_words(numbers >> 32)))


@quiet
def noise_keys(seed: Any, step: Any, index: Any) -> tuple[Any, Any]:
    """Return the two words of the cipher's key in uint32 (ROSE-9.2), given integers or sequences of them."""
    seed = np.asarray(seed, dtype=np.uint64)
    low, high = seed.astype(np.uint32), (seed >> np.uint64(32)).astype(np.uint32)
    return threefry2x32((low, high), (np.asarray(step, dtype=np.uint32), np.asarray(index, dtype=np.uint32)))


def threefry2x32(key: tuple[Any, Any], counter: tuple[Any, Any]) -> tuple[Any, Any]:
    """Encrypt counters with a key (ROSE-9.1). Both are pairs of 32-bit words; a key may hold Python integers."""
    keys = (*key, key[0] ^ key[1] ^ _PARITY)
    x0, x1 = counter[0] + keys[0], counter[1] + keys[1]
    for number in range(_ROUNDS):
        x0 = x0 + x1
        x1 = _rotated_left(x1, _ROTATIONS[number % 8]) ^ x0
        if number % 4 == 3:
            injection = number // 4 + 1
            x0 = x0 + keys[injection % 3]
            x1 = x1 + keys[(injection + 1) % 3] + injection
    return x0, x1


def _rotated_left(x: Any, distance: int) -> Any:
    """Rotate 32-bit words."""
    return (x << distance) | right_shifted(x, 32 - distance)
