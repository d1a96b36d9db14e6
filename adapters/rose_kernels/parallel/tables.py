"""The tables that a batch hands to its kernels, and the names of what is in them."""

from typing import Final

import numpy as np

__all__ = [
    "DEVIATIONS",
    "DRAFT",
    "DRAWN",
    "EXTREMA",
    "FOLD",
    "LANE",
    "NEAREST",
    "PART",
    "PHASES",
    "PORTABLE",
    "RANGES",
    "SHARED",
    "TENSOR",
    "TICKET",
    "UPDATE",
    "WHOLE",
]

# The phases of a tensor, in their order, and the one that does all of a small tensor.
EXTREMA, FOLD, RANGES, DEVIATIONS, UPDATE, WHOLE = range(6)
PHASES: Final = 5

# Where the noise comes from.
NEAREST, PORTABLE, DRAWN = range(3)

_TENSOR_FIELDS: Final = {
    # How it lies in memory, as rows that are contiguous, and what is done with it. These stay from step to step.
    "rank": np.int64,
    "rows": np.int64,
    "length": np.int64,  # elements of a row
    "param_stride_bytes": np.int64,  # bytes from one row to the next
    "grad_stride_bytes": np.int64,
    "centered": np.int64,
    "gated": np.int64,
    "first_row": np.int64,  # the place of its means and ranges, -1 where they are not kept
    "first_part": np.int64,  # the place of its rows' partial results, -1 where no row is measured in parts
    "first_draft": np.int64,  # the place of the first draft of its tickets then
    "block": np.int64,  # elements of a ticket then
    "number": np.int64,  # its place in the wave
    # The constants of the folds of a row and of the ranges (`folds.fold_constants`).
    "folds": np.int64,
    "scale": np.float64,
    "ratio": np.float64,
    "gate_folds": np.int64,
    "gate_scale": np.float64,
    "gate_ratio": np.float64,
    # What each step sets: addresses, -lr, the decay factor, maximize, and the noise.
    "param": np.int64,
    "grad": np.int64,
    "negative_lr": np.float64,
    "decay": np.float64,
    "maximize": np.int64,
    "noise": np.int64,
    "key0": np.uint32,
    "key1": np.uint32,
    "noise_address": np.int64,  # the address of drawn words
    "noise_start": np.int64,  # the element that the first of them is for
    # What the gate finds.
    "highest_range": np.float64,
    "mean64": np.float64,
    "highest_deviation": np.float64,
    "mean_range": np.float64,
    "trust": np.float64,
}
TENSOR: Final = np.dtype(list(_TENSOR_FIELDS.items()))

# From which element to before which; rows in the two phases of the gate, tensors in the phase that does whole ones.
TICKET: Final = np.dtype([(name, np.int64) for name in ("tensor", "phase", "start", "stop")])

# Of each lane, and of each phase in it, the next ticket to take and the one after the last; and room that keeps lanes
# out of each other's cache lines.
LANE: Final = 16

# What threads write together, as integers. Of each tensor: for each phase how many tickets are not done, and whether
# it may begin; the extrema of the ranges, as words; the sums of the folds of ranges and of squared deviations.
PENDING: Final = 0
OPEN: Final = PHASES
LOW_RANGE: Final = OPEN + PHASES + 1  # whole tensors, too, are open
HIGH_RANGE: Final = LOW_RANGE + 1
RANGE_SUMS: Final = HIGH_RANGE + 1
DEVIATION_SUMS: Final = RANGE_SUMS + 3
SHARED: Final = DEVIATION_SUMS + 3

# Of each row that is measured in parts: its extrema as ordered integers, and the sums of its folds.
LOW: Final = 0
HIGH: Final = 1
SUMS: Final = 2
PART: Final = SUMS + 3

# Behind these the drafts, one of each ticket for a part of a row: the word of a first s, and the sums with it.
DRAFT: Final = 4
