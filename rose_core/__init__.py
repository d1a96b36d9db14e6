"""The Rose optimizer as pure functions over any array-API array.

Rose (Range-Of-Slice Equilibration) is by Matthew E. Kieren: `rose-opt`, Apache-2.0, DOI 10.5281/zenodo.19589764.
Every slice of a gradient along axis 0 is divided by its range, |max| - min. `spec/SPEC.md` specifies the result to
the last bit, and `rule.py` is the rule, clause by clause.

Importing this package imports NumPy and no other array library.
"""

from rose_core.averaging import average
from rose_core.decay import decay_factor
from rose_core.hyperparameters import Hyperparameters
from rose_core.noise import noise_words
from rose_core.rounding import round_to_bfloat16
from rose_core.summation import reproducible_sum
from rose_core.update import SliceStatistics, slice_statistics, update

__all__ = [
    "Hyperparameters",
    "SliceStatistics",
    "average",
    "decay_factor",
    "noise_words",
    "reproducible_sum",
    "round_to_bfloat16",
    "slice_statistics",
    "update",
]
