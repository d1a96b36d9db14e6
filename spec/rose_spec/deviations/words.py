"""Deviations of the words of portable noise (ROSE-9)."""

from collections.abc import Callable
from typing import Final

from rose_spec.deviations.deviation import Deviation
from rose_spec.noise import MASK, noise_words, threefry2x32

__all__ = ["WORDS"]

# The four words of 16 bits of a block, from its two words of 32 bits.
Lanes = Callable[[int, int], list[int]]


def _with_lanes(lanes: Lanes) -> Callable[..., list[int]]:
    def words(count: int, *, seed: int, step: int, index: int) -> list[int]:
        key = threefry2x32((seed & MASK, seed >> 32), (step, index))
        blocks = (threefry2x32(key, (block & MASK, block >> 32)) for block in range(-(-count // 4)))
        return [word for x0, x1 in blocks for word in lanes(x0, x1)][:count]

    return words


def _step_and_index_swapped(count: int, *, seed: int, step: int, index: int) -> list[int]:
    return noise_words(count, seed=seed, step=index, index=step)


def _seed_halves_swapped(count: int, *, seed: int, step: int, index: int) -> list[int]:
    return noise_words(count, seed=(seed & MASK) << 32 | seed >> 32, step=step, index=index)


def _seed_cut(count: int, *, seed: int, step: int, index: int) -> list[int]:
    return noise_words(count, seed=seed & MASK, step=step, index=index)


def _seed_is_key(count: int, *, seed: int, step: int, index: int) -> list[int]:  # noqa: ARG001
    blocks = (threefry2x32((seed & MASK, seed >> 32), (block & MASK, block >> 32)) for block in range(-(-count // 4)))
    return [word for x0, x1 in blocks for word in (x0 & 0xFFFF, x0 >> 16, x1 & 0xFFFF, x1 >> 16)][:count]


WORDS: Final = tuple(
    Deviation(f"noise-{name}", sentence, clause, noise=function)
    for name, sentence, clause, function in (
        ("step-and-index-swapped", "the noise swaps step and index", "ROSE-9.2", _step_and_index_swapped),
        ("seed-halves-swapped", "the noise swaps the halves of the seed", "ROSE-9.2", _seed_halves_swapped),
        ("seed-cut", "the noise uses only the lower 32 bits of the seed", "ROSE-9.2", _seed_cut),
        ("seed-is-key", "the seed is the key of the blocks, without step and index", "ROSE-9.2", _seed_is_key),
        (
            "high-half-first",
            "the upper half of each word of the noise comes first",
            "ROSE-9.3",
            _with_lanes(lambda x0, x1: [x0 >> 16, x0 & 0xFFFF, x1 >> 16, x1 & 0xFFFF]),
        ),
        (
            "second-word-first",
            "the second word of each block of the noise comes first",
            "ROSE-9.3",
            _with_lanes(lambda x0, x1: [x1 & 0xFFFF, x1 >> 16, x0 & 0xFFFF, x0 >> 16]),
        ),
        (
            "reversed",
            "the words of each block of the noise are reversed",
            "ROSE-9.3",
            _with_lanes(lambda x0, x1: [x1 >> 16, x1 & 0xFFFF, x0 >> 16, x0 & 0xFFFF]),
        ),
        (
            "interleaved",
            "the lower halves of both words of a block come before the upper halves",
            "ROSE-9.3",
            _with_lanes(lambda x0, x1: [x0 & 0xFFFF, x1 & 0xFFFF, x0 >> 16, x1 >> 16]),
        ),
    )
)
