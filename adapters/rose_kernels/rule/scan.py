"""A look at a row in compiled code: all that is read of it, at once, before it is known whether it must be folded."""

from typing import Any, Final

import numpy as np
from numba.extending import overload

from rose_kernels.llvm.arithmetic import add_reassociable
from rose_kernels.llvm.bits import add, magnitude_key, order_key, sign_mask, xor
from rose_kernels.llvm.compilation import compiled, indices
from rose_kernels.llvm.memory import SLOTS, on_stack, prefetch_l2
from rose_kernels.llvm.storage import key_type, load, ulp_bound

__all__ = ["quantum", "survey"]

# Memory is asked for so many bytes ahead: a processor by itself looks no further than the page.
_AHEAD: Final = 4096
# A row of so many groups of `SLOTS` elements is looked at slot by slot.
_GROUPS: Final = 4


def survey(words: Any, flip: Any) -> Any:
    """Return what a look at a row, or at a part of one, tells.

    These are the smallest and the largest element as ordered integers, the most remote one (`bits.magnitude_key`), and
    the sum in whatever order. That of float64 is NaN: it would hardly ever be exact.
    """
    raise NotImplementedError


@overload(survey)
def _compiled_survey(words, flip):
    sums, key = words.dtype.bitwidth < 64, key_type(words.dtype)
    lowest, highest = key(np.iinfo(key).min), key(np.iinfo(key).max)

    def survey(words, flip):
        low, high, least, plain = highest, lowest, highest, 0.0 if sums else np.nan
        groups = np.uintp(words.size) // SLOTS
        if groups < _GROUPS:
            groups = np.uintp(0)
        else:
            # Each slot has what is found of its own, so that nothing is reduced before the end.
            lows, highs, leasts, plains = on_stack(key), on_stack(key), on_stack(key), on_stack(np.float64)
            for i in indices(0, SLOTS):
                lows[i], highs[i], leasts[i], plains[i] = highest, lowest, highest, 0.0
            for group in indices(0, groups):
                first = group * SLOTS
                prefetch_l2(words, first, SLOTS, _AHEAD)
                # The sums come first: once whole vectors are loaded, LLVM cuts the halves that these need from them,
                # element by element.
                if sums:
                    for i in indices(0, SLOTS):
                        plains[i] += load(words[first + i], np.float64)
                for i in indices(0, SLOTS):
                    own = order_key(words[first + i])
                    lows[i], highs[i] = min(lows[i], own), max(highs[i], own)
                    leasts[i] = min(leasts[i], magnitude_key(words[first + i]))
            for i in indices(0, SLOTS):
                low, high, least = min(low, lows[i]), max(high, highs[i]), min(least, leasts[i])
                plain = add_reassociable(plain, plains[i])
        rest = groups * SLOTS
        prefetch_l2(words, rest, np.uintp(words.size) - rest, _AHEAD)
        if sums:
            for i in indices(rest, words.size):
                plain = add_reassociable(plain, load(words[i], np.float64))
        for i in indices(rest, words.size):
            own = order_key(words[i])
            low, high = min(low, own), max(high, own)
            least = min(least, magnitude_key(words[i]))
        if flip != 0:  # the order is the reverse
            low, high, plain = xor(high, -1), xor(low, -1), -plain
        return low, high, least, plain

    return survey


@compiled
def quantum(least, word):
    """Return a number of whose powers of 2 each element is a multiple (`storage.ulp_bound`), from the most remote one.

    That all are 0 is seen in the word: where the processor takes subnormal floats for 0, they may hide others.
    """
    magnitude = add(xor(sign_mask(1, word), least), 1)
    return ulp_bound(load(magnitude, np.float64) if magnitude != 0 else np.inf, word)
