"""The options of a parameter group, as torch users give them and in their plain form."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

import torch
from torch.nn.parameter import is_lazy

from rose_core import Hyperparameters
from rose_core.decay import group_decay_factor
from rose_kernels import resolve_fused
from rose_plan import decay_warnings, is_always_centered_away, one_element_warning, warn_user

__all__ = [
    "OPTIONS",
    "StepGroup",
    "generator_of",
    "hyperparameters",
    "param_name",
    "plain_options",
    "require_unset",
    "step_group",
    "warn_of_groups",
]

OPTIONS: Final = tuple(field.name for field in fields(Hyperparameters))
# Options of other optimizers of torch, and the reason why Rose refuses them.
_OF_TORCH: Final = {
    "foreach": "a step joins parameters by itself, and fused=True asks for compiled kernels",
    "capturable": "a CUDA graph would repeat one step's lr, decay and noise",
    "differentiable": "autograd does not follow a step",
}


@dataclass(frozen=True)
class StepGroup:
    """The options of a parameter group, checked for one step.

    Attributes
    ----------
    entries : the group itself.
    number : the number of the group.
    first : the index of the group's first parameter among all parameters.
    options, generator, decay : the options, the generator given as `bf16_sr`, and the decay factor.
    fused : whether kernels update the parameters, None if they do once they are compiled.
    """

    entries: Mapping[str, Any]
    number: int
    first: int
    options: Hyperparameters
    generator: torch.Generator | None
    decay: float
    fused: bool | None

    def name(self, index: int) -> str:
        """Return the name of the parameter with this index, for errors."""
        return param_name(self.entries, self.number, index - self.first)


def step_group(entries: Mapping[str, Any], number: int, first: int, *, fused: bool | None) -> StepGroup:
    """Check the options of a group, or raise an error that names one of them. `fused` is that of the optimizer."""
    try:
        options, _ = hyperparameters(entries), entries["step"]
    except KeyError as error:
        raise ValueError(f"group {number} lacks {error.args[0]}") from None
    decay = group_decay_factor(options, entries)
    if "fused" in entries:
        fused = resolve_fused(entries["fused"])
    return StepGroup(entries, number, first, options, generator_of(entries), decay, fused)


def param_name(group: Mapping[str, Any], number: int, position: int) -> str:
    """Return the name of the parameter at a position of a group, for errors."""
    names = group.get("param_names")
    return f"parameter {position} of group {number}" if names is None else f"parameter {names[position]!r}"


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
    """Return the validated options of a group as the group holds them: plain values, a tensor `lr`, a generator."""
    plain = asdict(hyperparameters(group))
    # The owner of a tensor lr changes it in place, so the group must hold the same object.
    if isinstance(group["lr"], torch.Tensor):
        plain["lr"] = group["lr"]
    return plain | ({} if generator_of(group) is None else {"bf16_sr": group["bf16_sr"]})


def generator_of(group: Mapping[str, Any]) -> torch.Generator | None:
    """Return the generator given as the group's `bf16_sr`, if one was."""
    generator = group["bf16_sr"]
    return generator if isinstance(generator, torch.Generator) else None


def require_unset(options: Mapping[str, Any]) -> None:
    """Raise if one of these options is True that other optimizers of torch have."""
    for option, reason in _OF_TORCH.items():
        value = options.get(option)
        if value is not None and value is not False:
            raise ValueError(f"{option} must be None or False, got {value!r}; {reason}")


def warn_of_groups(groups: Sequence[Mapping[str, Any]], first: int) -> None:
    """Warn about the groups from the first on, once for each reason."""
    numbered = list(enumerate(groups))[first:]
    fixed = [
        f"{param_name(group, number, position)} of shape {tuple(param.shape)}"
        for number, group in numbered
        for position, param in enumerate(group["params"])
        if not is_lazy(param) and is_always_centered_away(tuple(param.shape), centralize=group["centralize"])
    ]
    texts = [one_element_warning(", ".join(fixed))] if fixed else []
    texts += decay_warnings((f"group {number}", hyperparameters(group), group) for number, group in numbered)
    for text in texts:
        warn_user(text)
