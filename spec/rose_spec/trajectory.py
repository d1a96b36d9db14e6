"""Several steps of several groups: what an optimizer, or whatever drives a single step, adds to the rule.

That is the reference of the decay's schedule (ROSE-3.4) and the portable noise (ROSE-9.2). The step itself
is a function that is handed in: the oracle's, or a port's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rose_spec.noise import noise_words
from rose_spec.oracle import Rule, Tensor
from rose_spec.vectors import number_from_json, number_to_json, options_from_json, tensor_from_json

__all__ = ["Group", "Trajectory", "Turn", "update_by_oracle"]

STEP_OPTIONS: Final = ("lr", "weight_decay", "centralize", "stabilize", "compute_dtype", "maximize")


@dataclass(frozen=True)
class Turn:
    """One step of one parameter, ready to be asked of a port; `options` stand as in JSON."""

    group: int
    position: int
    param: Tensor
    grad: Tensor
    options: Mapping[str, Any]
    noise: list[int] | None


class Group:
    """A group of parameters and what its steps leave behind; `value` is its JSON object."""

    def __init__(self, value: Mapping[str, Any], first_index: int) -> None:
        self.options: dict[str, Any] = dict(value["options"])
        self.params = [tensor_from_json(param) for param in value["params"]]
        self.max_lr = number_from_json(value["max_lr"]) if "max_lr" in value else 0.0
        self.initial_lr = number_from_json(value["initial_lr"]) if "initial_lr" in value else 0.0
        self.first_index = first_index
        self.steps = 0

    @property
    def lr(self) -> float:
        """Return the learning rate of the step at hand."""
        return number_from_json(self.options["lr"])

    def record(self) -> None:
        """Record the first lr that is not 0 (ROSE-3.4)."""
        self.initial_lr = self.initial_lr or self.lr

    def reference(self) -> float | None:
        """Return the reference lr of the decay, None without one (ROSE-3.3, ROSE-3.4)."""
        schedule = self.options.get("wd_schedule", False)
        if isinstance(schedule, bool):
            return (self.max_lr or self.initial_lr or None) if schedule else None
        return number_from_json(schedule) if isinstance(schedule, str) else float(schedule)  # ROSE-10.3

    def noise(self, position: int) -> list[int] | None:
        """Return a parameter's noise at this step, None where it is rounded to nearest (ROSE-8.4, ROSE-9.2)."""
        param = self.params[position]
        if param.dtype != "bfloat16" or not self.options.get("bf16_sr", True):
            return None
        seed = int(self.options.get("sr_seed", "0"), 16)
        return noise_words(len(param.values), seed=seed, step=self.steps, index=self.first_index + position)

    def step_options(self) -> dict[str, Any]:
        """Return the options of a single step, as in JSON; those not given are left out."""
        options: dict[str, Any] = {name: self.options[name] for name in STEP_OPTIONS if name in self.options}
        reference = self.reference()
        return options if reference is None else {**options, "lr_reference": number_to_json(reference)}

    def advance(self) -> None:
        """Count the step, unless its lr is 0 (ROSE-9.2)."""
        self.steps += self.lr != 0.0


class Trajectory:
    """The groups of a trajectory vector; `value` is its "input"."""

    group_type: type[Group] = Group

    def __init__(self, value: Mapping[str, Any]) -> None:
        self.steps: Sequence[Mapping[str, Any]] = value["steps"]
        self.groups: list[Group] = []
        index = 0
        for group in value["groups"]:
            self.groups.append(self.group_type(group, index))
            index += len(group["params"])

    def play(self, update: Callable[[Turn], Tensor]) -> list[list[Tensor]]:
        """Take all steps, each parameter's by `update`, and return the parameters of each group."""
        for step in self.steps:
            for group, lr in zip(self.groups, step["lr"], strict=True):
                group.options["lr"] = lr
                group.record()
            for turn in self.turns(step):
                self.groups[turn.group].params[turn.position] = update(turn)
            for group in self.groups:
                group.advance()
        return [group.params for group in self.groups]

    def turns(self, step: Mapping[str, Any]) -> Iterator[Turn]:
        """Yield the parts of a step; a parameter without a gradient has none."""
        for number, (group, grads) in enumerate(zip(self.groups, step["grads"], strict=True)):
            for position, (param, grad) in enumerate(zip(group.params, grads, strict=True)):
                if grad is not None:
                    options, noise = group.step_options(), group.noise(position)
                    yield Turn(number, position, param, tensor_from_json(grad), options, noise)


def update_by_oracle(turn: Turn, rule: type[Rule] = Rule) -> Tensor:
    """Return the parameter after a turn, by the oracle or one of its deviations."""
    return rule(options_from_json(turn.options)).update(turn.param, turn.grad, turn.noise).param
