"""Portable noise in compiled code: `rose_core.noise`, one chunk of a parameter at a time (ROSE-9)."""

import numpy as np

from rose_kernels.llvm.bits import add, rotate_left, xor
from rose_kernels.llvm.compilation import compiled, indices

__all__ = ["CHUNK", "fill_noise", "noise_buffer"]

# Elements per chunk: their noise words stay in the first-level cache.
CHUNK = 1024

_PARITY = 0x1BD11BDA


@compiled
def noise_buffer():
    """Return a buffer for the noise words of a chunk, which may begin within a block of four words."""
    return np.empty(CHUNK // 2 + 4, np.uint32)


@compiled
def fill_noise(buffer, start, count, key0, key1):
    """Write the noise words of elements `start` to `start + count` into the buffer (ROSE-9.3).

    Return the index of the first word in the buffer, read as 16-bit words.
    """
    key2 = xor(xor(key0, key1), _PARITY)
    first = np.uint64(start // 4)
    low, high = np.uint32(first), np.uint32(first >> np.uint64(32))
    for i in indices(0, (start + count + 3) // 4 - start // 4):
        counter = add(low, i)
        carry = np.uint32(1) if counter < low else np.uint32(0)
        x0, x1 = _threefry(add(counter, key0), add(add(high, carry), key1), key0, key1, key2)
        buffer[np.uintp(2) * i], buffer[np.uintp(2) * i + np.uintp(1)] = x0, x1
    return start % 4


@compiled
def _threefry(x0, x1, key0, key1, key2):
    """Apply the 20 rounds of Threefry-2x32 to a counter that already has the key added (ROSE-9.1)."""
    x0, x1 = _four_rounds(x0, x1, 13, 15, 26, 6)
    x0, x1 = add(x0, key1), add(add(x1, key2), 1)
    x0, x1 = _four_rounds(x0, x1, 17, 29, 16, 24)
    x0, x1 = add(x0, key2), add(add(x1, key0), 2)
    x0, x1 = _four_rounds(x0, x1, 13, 15, 26, 6)
    x0, x1 = add(x0, key0), add(add(x1, key1), 3)
    x0, x1 = _four_rounds(x0, x1, 17, 29, 16, 24)
    x0, x1 = add(x0, key1), add(add(x1, key2), 4)
    x0, x1 = _four_rounds(x0, x1, 13, 15, 26, 6)
    return add(x0, key2), add(add(x1, key0), 5)


@compiled
def _four_rounds(x0, x1, a, b, c, d):
    for distance in (a, b, c, d):
        x0 = add(x0, x1)
        x1 = xor(rotate_left(x1, distance), x0)
    return x0, x1
