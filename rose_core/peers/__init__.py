"""The rules that people would take instead of Rose, as pure functions over any array-API array.

A rule is a frozen dataclass of its hyperparameters. Its `init` returns a state, and its `update` returns the
direction of a step and the new state. `rose_numpy.Optimizer`, `rose_cupy.Optimizer` and `rose_torch.Optimizer` bind a
rule to parameters. The same inputs give the same bits on every array library.
"""

from rose_core.peers.base import Rule, Total
from rose_core.peers.elementwise.adam import Adam, AdamW
from rose_core.peers.elementwise.ademamix import AdEMAMix, SimplifiedAdEMAMix
from rose_core.peers.elementwise.laprop import LaProp
from rose_core.peers.elementwise.lion import Lion
from rose_core.peers.elementwise.madam import MAdam
from rose_core.peers.elementwise.mars import MARS
from rose_core.peers.elementwise.nadam import NAdamW
from rose_core.peers.elementwise.qhadam import QHAdamW
from rose_core.peers.elementwise.radam import RAdam
from rose_core.peers.elementwise.rmsprop import RMSprop
from rose_core.peers.elementwise.sgd import SGD
from rose_core.peers.elementwise.signum import Signum
from rose_core.peers.elementwise.sophia import SophiaH
from rose_core.peers.matrix.kron import Kron
from rose_core.peers.matrix.muon import Muon
from rose_core.peers.matrix.prism import PRISM
from rose_core.peers.matrix.soap import SOAP

__all__ = [
    "MARS",
    "PRISM",
    "SGD",
    "SOAP",
    "AdEMAMix",
    "Adam",
    "AdamW",
    "Kron",
    "LaProp",
    "Lion",
    "MAdam",
    "Muon",
    "NAdamW",
    "QHAdamW",
    "RAdam",
    "RMSprop",
    "Rule",
    "Signum",
    "SimplifiedAdEMAMix",
    "SophiaH",
    "Total",
]
