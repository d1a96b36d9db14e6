"""The rules that the tests run, each with the options that they run with."""

from typing import Any, Final

from rose_core import peers
from rose_core.peers import Rule

__all__ = ["OVERRIDING", "RULES", "VARIANTS"]

RULES: Final[dict[str, Rule]] = {
    "SGD": peers.SGD(momentum=0.9),
    "Adam": peers.Adam(),
    "AdamW": peers.AdamW(),
    "NAdamW": peers.NAdamW(),
    "RAdam": peers.RAdam(),
    "QHAdamW": peers.QHAdamW(),
    "AdEMAMix": peers.AdEMAMix(betas=(0.9, 0.999, 0.99)),
    "SimplifiedAdEMAMix": peers.SimplifiedAdEMAMix(betas=(0.99, 0.999)),
    "LaProp": peers.LaProp(),
    "Lion": peers.Lion(),
    "MAdam": peers.MAdam(),
    "Signum": peers.Signum(),
    "RMSprop": peers.RMSprop(),
    "SophiaH": peers.SophiaH(),
    "MARS": peers.MARS(),
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
    "NAdamW, betas": ("NAdamW", {"betas": (0.8, 0.95)}),
    "NAdamW, eps": ("NAdamW", {"eps": 1e-2}),
    "NAdamW, schedule of torch": ("NAdamW", {"momentum_decay": 4e-3}),
    "RAdam, betas": ("RAdam", {"betas": (0.8, 0.95)}),
    "RAdam, eps": ("RAdam", {"eps": 1e-2}),
    "RAdam, above 4": ("RAdam", {"rectify_above": 4}),
    "RAdam, eps of torch": ("RAdam", {"eps_added_to": "uncorrected"}),
    "QHAdamW, betas": ("QHAdamW", {"betas": (0.8, 0.95)}),
    "QHAdamW, nus": ("QHAdamW", {"nus": (0.5, 0.5)}),
    "QHAdamW, eps": ("QHAdamW", {"eps": 1e-2}),
    "AdEMAMix, betas": ("AdEMAMix", {"betas": (0.8, 0.99, 0.95)}),
    "AdEMAMix, eps": ("AdEMAMix", {"eps": 1e-2}),
    "AdEMAMix, alpha": ("AdEMAMix", {"alpha": 5.0}),
    "AdEMAMix, uncorrected": ("AdEMAMix", {"correct_bias": False}),
    "AdEMAMix, warmup of beta": ("AdEMAMix", {"num_beta_slow_warmup_steps": 30}),
    "AdEMAMix, warmup of alpha": ("AdEMAMix", {"num_alpha_warmup_steps": 12}),
    "SimplifiedAdEMAMix, betas": ("SimplifiedAdEMAMix", {"betas": (0.95, 0.99)}),
    "SimplifiedAdEMAMix, eps": ("SimplifiedAdEMAMix", {"eps": 1e-2}),
    "SimplifiedAdEMAMix, alpha": ("SimplifiedAdEMAMix", {"alpha": 0.5}),
    "SimplifiedAdEMAMix, uncorrected": ("SimplifiedAdEMAMix", {"correct_bias": False}),
    "SimplifiedAdEMAMix, warmup": ("SimplifiedAdEMAMix", {"num_beta_fast_warmup_steps": 30}),
    "SimplifiedAdEMAMix, warmup from 0.5": (
        "SimplifiedAdEMAMix",
        {"num_beta_fast_warmup_steps": 30, "min_beta_fast": 0.5},
    ),
    "LaProp, betas": ("LaProp", {"betas": (0.8, 0.95)}),
    "LaProp, eps": ("LaProp", {"eps": 1e-2}),
    "LaProp, uncorrected": ("LaProp", {"correct_bias": False}),
    "LaProp, norm kept": ("LaProp", {"frob_normalize": True}),
    "Lion, betas": ("Lion", {"betas": (0.8, 0.95)}),
    "MAdam, betas": ("MAdam", {"betas": (0.8, 0.95)}),
    "MAdam, uncorrected": ("MAdam", {"correct_bias": False}),
    "Signum, momentum": ("Signum", {"momentum": 0.5}),
    "Signum, Nesterov": ("Signum", {"nesterov": True}),
    "Signum, Nesterov, uncorrected": ("Signum", {"nesterov": True, "correct_bias": False}),
    "Signum, scaled": ("Signum", {"use_shape_scaling": True}),
    "RMSprop, alpha": ("RMSprop", {"alpha": 0.9}),
    "RMSprop, eps": ("RMSprop", {"eps": 1e-2}),
    "SophiaH, betas": ("SophiaH", {"betas": (0.5, 0.99)}),
    "SophiaH, rho": ("SophiaH", {"rho": 0.5}),
    "MARS, betas": ("MARS", {"betas": (0.8, 0.95)}),
    "MARS, eps": ("MARS", {"eps": 1e-2}),
    "MARS, gamma": ("MARS", {"gamma": 0.1}),
    "MARS, not clipped": ("MARS", {"clip_c": False}),
    "MARS, first gradient": ("MARS", {"clip_c": False, "first_previous": "gradient"}),
}
"""Options that change the result of a rule of `RULES`, by a name of the case."""

OVERRIDING: Final = frozenset({"LaProp"})
"""The classes whose step is not ``param - lr * direction``."""
