"""The portable noise in Python integers (ROSE-9); written from SPEC.md alone."""

from typing import Final

__all__ = ["MASK", "noise_words", "threefry2x32"]

MASK: Final = 0xFFFFFFFF


def threefry2x32(key: tuple[int, int], counter: tuple[int, int]) -> tuple[int, int]:
    """Encrypt a counter with a key, in 20 rounds (ROSE-9.1)."""
    keys = (*key, key[0] ^ key[1] ^ 0x1BD11BDA)
    x0, x1 = (counter[0] + keys[0]) & MASK, (counter[1] + keys[1]) & MASK
    for block in range(1, 6):
        for distance in (13, 15, 26, 6) if block % 2 else (17, 29, 16, 24):
            x0 = (x0 + x1) & MASK
            x1 = ((x1 << distance | x1 >> (32 - distance)) & MASK) ^ x0
        x0 = (x0 + keys[block % 3]) & MASK
        x1 = (x1 + keys[(block + 1) % 3] + block) & MASK
    return x0, x1


def noise_words(count: int, *, seed: int, step: int, index: int) -> list[int]:
    """Return the noise of a parameter's first `count` elements at a step (ROSE-9.2, ROSE-9.3)."""
    key = threefry2x32((seed & MASK, seed >> 32), (step, index))
    words: list[int] = []
    for block in range(-(-count // 4)):
        for word in threefry2x32(key, (block & MASK, block >> 32)):
            words += [word & 0xFFFF, word >> 16]
    return words[:count]
