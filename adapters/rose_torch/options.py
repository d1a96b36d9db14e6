"""The options of a parameter group as torch users give them, and in their plain form."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, Final

import torch

from rose_core import Hyperparameters

__all__ = ["OPTIONS", "generator_of", "hyperparameters", "plain_options"]

OPTIONS: Final = tuple(field.name for field in fields(Hyperparameters))


def hyperparameters(group: Mapping[str, Any]) -> Hyperparameters:
    """Return the validated options of a group, where `bf16_sr` may be a generator and `lr` a tensor."""
    options = {option: group[option] for option in OPTIONS}
    if isinstance(options["bf16_sr"], torch.Generator):
        options["bf16_sr"] = True
        if options["sr_seed"] is not None:
            raise ValueError(
                f"sr_seed={options['sr_seed']!r} and a torch.Generator as bf16_sr are two sources of the same "
                "noise; allowed is one of them"
            )
    return Hyperparameters(**options)


def plain_options(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the validated options of a group as it keeps them: plain values, a tensor `lr`, a generator."""
    plain = asdict(hyperparameters(group))
    # A tensor lr is changed in place by its owner, so it must stay the same object.
    if isinstance(group["lr"], torch.Tensor):
        plain["lr"] = group["lr"]
    return plain | ({} if generator_of(group) is None else {"bf16_sr": group["bf16_sr"]})


def generator_of(group: Mapping[str, Any]) -> torch.Generator | None:
    """Return the generator given as the group's `bf16_sr`, if one was."""
    generator = group["bf16_sr"]
    return generator if isinstance(generator, torch.Generator) else None
