"""One pass over a row: its extrema, its smallest nonzero magnitude, and its plain sum."""

from typing import Any, Final

import numpy as np
from numba.extending import overload

from rose_kernels.llvm.arithmetic import add_reassociable
from rose_kernels.llvm.bits import add, magnitude_key, order_key, sign_mask, xor
from rose_kernels.llvm.compilation import compiled, indices
from rose_kernels.llvm.memory import SLOTS, on_stack, prefetch_l2
from rose_kernels.llvm.storage import key_type, load, ulp_bound

__all__ = ["scan_row", "smallest_ulp"]

# Prefetch this many bytes ahead. The hardware prefetcher stops at the end of a page.
_AHEAD: Final = 4096
# A row of this many groups of `SLOTS` elements or more is scanned group by group.
_MIN_GROUPS: Final = 4


def scan_row(words: Any, mask: Any) -> Any:
    """Scan a row, or a part of one, of storage words; `mask` is their `sign_mask`.

    Return four values: the order keys of the smallest and of the largest element, the smallest magnitude key, and the
    plain sum. The plain sum is in float64, its additions in no particular order. For float64 storage it is NaN, because
    it would hardly ever be exact.
    """
    raise NotImplementedError


@overload(scan_row)
def _compiled_scan_row(words, mask):
    has_sum, key = words.dtype.bitwidth < 64, key_type(words.dtype)
    lowest, highest = key(np.iinfo(key).min), key(np.iinfo(key).max)

    def scan_row(words, mask):
        low, high, least, plain = highest, lowest, highest, 0.0 if has_sum else np.nan
        groups = np.uintp(words.size) // SLOTS
        if groups < _MIN_GROUPS:
            groups = np.uintp(0)
        else:
            # Slot i holds the results of element i of every group, so that slots are combined once, at the end.
            lows, highs, leasts, sums = on_stack(key), on_stack(key), on_stack(key), on_stack(np.float64)
            for i in indices(0, SLOTS):
                lows[i], highs[i], leasts[i], sums[i] = highest, lowest, highest, 0.0
            for group in indices(0, groups):
                first = group * SLOTS
                prefetch_l2(words, first, SLOTS, _AHEAD)
                # The sums come first. After whole vectors are loaded, LLVM would extract the half vectors for float64
                # from them, element by element.
                if has_sum:
                    for i in indices(0, SLOTS):
                        sums[i] += load(words[first + i], np.float64)
                for i in indices(0, SLOTS):
                    element = order_key(words[first + i])
                    lows[i], highs[i] = min(lows[i], element), max(highs[i], element)
                    leasts[i] = min(leasts[i], magnitude_key(words[first + i]))
            for i in indices(0, SLOTS):
                low, high, least = min(low, lows[i]), max(high, highs[i]), min(least, leasts[i])
                plain = add_reassociable(plain, sums[i])
        rest = groups * SLOTS
        prefetch_l2(words, rest, np.uintp(words.size) - rest, _AHEAD)
        if has_sum:
            for i in indices(rest, words.size):
                plain = add_reassociable(plain, load(words[i], np.float64))
        for i in indices(rest, words.size):
            element = order_key(words[i])
            low, high = min(low, element), max(high, element)
            least = min(least, magnitude_key(words[i]))
        if mask != 0:  # negated elements have the reverse order
            low, high, plain = xor(high, -1), xor(low, -1), -plain
        return low, high, least, plain

    return scan_row


@compiled
def smallest_ulp(least, storage):
    """Return a lower bound of the unit in the last place of every nonzero element, from the smallest magnitude key.

    Each element is a multiple of every power of 2 up to the bound. It is infinite for a row of zeros.
    """
    magnitude = add(xor(sign_mask(1, storage), least), 1)
    # Compare the bits with 0, not the float: a processor that treats subnormals as zero would read one as 0.
    return ulp_bound(load(magnitude, np.float64) if magnitude != 0 else np.inf, storage)
