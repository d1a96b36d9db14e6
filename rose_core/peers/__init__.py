"""The rules that people would take instead of Rose, as pure functions over any array-API array.

A rule is a frozen dataclass of its hyperparameters. Its `init` returns a state, and its `update` returns the
direction of a step and the new state. `rose_numpy.Optimizer`, `rose_cupy.Optimizer` and `rose_torch.Optimizer` bind a
rule to parameters. The same inputs give the same bits on every array library.
"""

from rose_core.peers.base import Rule, Total
from rose_core.peers.clipping import global_grad_clip_scale, l2_norm
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
from rose_core.peers.emerging import (
    calculate_adam_update,
    calculate_ademamix_update,
    calculate_laprop_update,
    calculate_lion_update,
    calculate_madam_update,
    calculate_signum_update,
    calculate_sim_ademamix_update,
)
from rose_core.peers.matrix.kron import Kron
from rose_core.peers.matrix.muon import Muon
from rose_core.peers.matrix.prism import PRISM
from rose_core.peers.matrix.soap import SOAP
from rose_core.peers.norms.adafactor import Adafactor
from rose_core.peers.norms.lamb import LAMB
from rose_core.peers.norms.rose import Rose
from rose_core.peers.schedules import wsd_schedule
from rose_core.peers.updates import apply_updates
from rose_core.peers.wrappers.clip_updates import ClipUpdates
from rose_core.peers.wrappers.magma import Magma
from rose_core.peers.wrappers.partition import Partition
from rose_core.peers.wrappers.schedule_free import ScheduleFree
from rose_core.peers.wrappers.spike_guard import SpikeGuard

__all__ = [
    "AdEMAMix",
    "Adafactor",
    "Adam",
    "AdamW",
    "ClipUpdates",
    "Kron",
    "LAMB",
    "LaProp",
    "Lion",
    "MARS",
    "MAdam",
    "Magma",
    "Muon",
    "NAdamW",
    "PRISM",
    "Partition",
    "QHAdamW",
    "RAdam",
    "RMSprop",
    "Rose",
    "Rule",
    "SGD",
    "SOAP",
    "ScheduleFree",
    "Signum",
    "SimplifiedAdEMAMix",
    "SophiaH",
    "SpikeGuard",
    "Total",
    "apply_updates",
    "calculate_adam_update",
    "calculate_ademamix_update",
    "calculate_laprop_update",
    "calculate_lion_update",
    "calculate_madam_update",
    "calculate_signum_update",
    "calculate_sim_ademamix_update",
    "global_grad_clip_scale",
    "l2_norm",
    "wsd_schedule",
]
