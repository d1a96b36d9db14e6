"""The rules that people would take instead of Rose, as pure functions over any array-API array.

A rule is a frozen dataclass of its hyperparameters. Its `init` returns a state, and its `update` returns the
direction of a step and the new state. `rose_numpy.Optimizer`, `rose_cupy.Optimizer` and `rose_torch.Optimizer` bind a
rule to parameters. The same inputs give the same bits on every array library.
"""

from rose_core.peers.base import Rule
from rose_core.peers.elementwise.adam import Adam, AdamW
from rose_core.peers.elementwise.sgd import SGD
from rose_core.peers.matrix.muon import Muon
from rose_core.peers.matrix.prism import PRISM

__all__ = ["PRISM", "SGD", "Adam", "AdamW", "Muon", "Rule"]
