"""The tables that the host hands to a kernel: their record types, and the layout of the integer arrays.

A kernel is called with addresses, not with arrays of parameters. The host writes one record per tensor and one per
task, and allocates three integer arrays: `queues`, `shared` and `partials`. This file has no formula and loads no
compiler, so that both sides can import it.
"""

from typing import Final

import numpy as np

__all__ = [
    "DEVIATIONS",
    "DEVIATION_SUMS",
    "DRAWN",
    "FOLD",
    "HIGH",
    "LOW",
    "MAX_RANGE",
    "MEASURE",
    "MIN_RANGE",
    "NEAREST",
    "OPEN",
    "PARTIAL_SIZE",
    "PENDING",
    "PHASES",
    "PORTABLE",
    "QUEUE_SIZE",
    "RANGES",
    "RANGE_SUMS",
    "SHARED_SIZE",
    "SPECULATIVE_SIZE",
    "SUMS",
    "TASK",
    "TENSOR",
    "UPDATE",
    "WHOLE",
]

# The phases of a tensor in their order (see `tasks`). A task of WHOLE runs all phases of several small tensors.
MEASURE, FOLD, RANGES, DEVIATIONS, UPDATE, WHOLE = range(6)
PHASES: Final = 5

# How a parameter is rounded: to nearest, or stochastically with portable noise or with noise drawn by the caller.
NEAREST, PORTABLE, DRAWN = range(3)

_TENSOR_FIELDS: Final = {
    # The layout, as contiguous rows, and the options that are the same at every step.
    "rank": np.int64,
    "rows": np.int64,
    "length": np.int64,  # elements per row
    "param_stride_bytes": np.int64,  # bytes from one row to the next
    "grad_stride_bytes": np.int64,
    "centered": np.int64,
    "gated": np.int64,
    # Indices into the arrays of a batch.
    "first_row": np.int64,  # of its first mean and range; -1 if these are not stored
    "first_partial": np.int64,  # of its first row in `partials`; -1 unless its rows are longer than a block
    "first_speculative": np.int64,  # of its first speculative sums in `partials`
    "block": np.int64,  # elements per task of a row longer than a block
    "index": np.int64,  # of the tensor in its batch
    # The fold constants of a row and of the gate (`summation.fold_constants`).
    "folds": np.int64,
    "scale": np.float64,
    "ratio": np.float64,
    "gate_folds": np.int64,
    "gate_scale": np.float64,
    "gate_ratio": np.float64,
    # Set by the host for each step.
    "param": np.int64,  # address
    "grad": np.int64,
    "negative_lr": np.float64,
    "decay": np.float64,
    "maximize": np.int64,
    "limit": np.float64,  # the largest change of an element
    "noise": np.int64,  # NEAREST, PORTABLE or DRAWN
    "key0": np.uint32,
    "key1": np.uint32,
    "noise_address": np.int64,  # of drawn noise words
    "noise_start": np.int64,  # the element that the first drawn word is for
    # Set by the kernel in the gate.
    "max_range": np.float64,
    "mean64": np.float64,
    "max_deviation": np.float64,
    "mean_range": np.float64,
    "trust": np.float64,
}
TENSOR: Final = np.dtype(list(_TENSOR_FIELDS.items()))

# A task covers `start` to `stop`: elements of a tensor; rows in RANGES and DEVIATIONS; tensors in WHOLE.
TASK: Final = np.dtype([(name, np.int64) for name in ("tensor", "phase", "start", "stop")])

# `queues` has QUEUE_SIZE integers for each thread. At 2 * phase is the index of the next task of this phase, and after
# it the end of these tasks. The rest is padding against false sharing between threads.
QUEUE_SIZE: Final = 16

# `shared` has SHARED_SIZE integers for each tensor, which all threads update by atomic operations.
PENDING: Final = 0  # for each phase, the number of unfinished tasks
OPEN: Final = PHASES  # for each phase, and for WHOLE, 1 when its tasks may run
MIN_RANGE: Final = OPEN + PHASES + 1  # extrema of the ranges, as the bits of float64
MAX_RANGE: Final = MIN_RANGE + 1
RANGE_SUMS: Final = MAX_RANGE + 1  # three fold sums of the ranges
DEVIATION_SUMS: Final = RANGE_SUMS + 3  # three fold sums of the squared deviations
SHARED_SIZE: Final = DEVIATION_SUMS + 3

# `partials` has PARTIAL_SIZE integers for each row longer than a block, whose tasks combine their results here.
LOW: Final = 0  # order keys of the extrema
HIGH: Final = 1
SUMS: Final = 2  # three fold sums
PARTIAL_SIZE: Final = SUMS + 3
# After the rows, `partials` has SPECULATIVE_SIZE integers for each of their tasks: the bits of an s, and the three fold
# sums made with it. NOTE: [speculative sums] in rule/statistics.py explains them.
SPECULATIVE_SIZE: Final = 4
