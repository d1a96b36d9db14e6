"""The Rose optimizer as pure functions over any array-API array.

Rose (Range-Of-Slice Equilibration) is by Matthew E. Kieren: `rose-opt`, Apache-2.0,
DOI 10.5281/zenodo.19589764. Every slice of a gradient along axis 0 is divided by its range, |max| - min.
`spec/SPEC.md` says what is computed, to the last bit; each module here is one idea of it.

Read them in the order of a step: `statistics` of each slice, the `gate` over all slices, the elementwise
`update`. Importing this package imports NumPy and no other array library.
"""

from rose_core.decay import decay_factor
from rose_core.hyperparameters import Hyperparameters
from rose_core.noise import noise_words
from rose_core.rounding import round_to_bfloat16
from rose_core.statistics import SliceStatistics, slice_statistics
from rose_core.summation import exact_sum
from rose_core.update import update

__all__ = [
    "Hyperparameters",
    "SliceStatistics",
    "decay_factor",
    "exact_sum",
    "noise_words",
    "round_to_bfloat16",
    "slice_statistics",
    "update",
]
