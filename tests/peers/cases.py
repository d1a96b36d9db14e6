"""The rules that the tests run, each with the options that they run with."""

from typing import Any, Final

from rose_core import peers
from rose_core.peers import Rule

__all__ = ["RULES", "VARIANTS"]

RULES: Final[dict[str, Rule]] = {
    "SGD": peers.SGD(momentum=0.9),
    "Adam": peers.Adam(),
    "AdamW": peers.AdamW(),
}
"""One instance of each rule, by name."""

VARIANTS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "SGD, plain": ("SGD", {"momentum": 0.0}),
    "SGD, dampening": ("SGD", {"dampening": 0.3}),
    "SGD, Nesterov": ("SGD", {"nesterov": True}),
    "Adam, betas": ("Adam", {"betas": (0.8, 0.95)}),
    "Adam, eps": ("Adam", {"eps": 1e-2}),
    "Adam, eps_root": ("Adam", {"eps_root": 1e-2}),
    "Adam, uncorrected": ("Adam", {"correct_bias": False}),
    "Adam, Nesterov": ("Adam", {"nesterov": True}),
}
"""Options that change the result of a rule of `RULES`: one for each option, by a name of the case."""
