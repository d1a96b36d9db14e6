"""Several steps of several parameter groups: the decay schedule (ROSE-3.4) and the portable noise (ROSE-9.2).

A `Trajectory` resolves both for each step. The single step is a function of the caller: the oracle's or a port's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rose_spec.noise import noise_words
from rose_spec.oracle import Rule, Tensor
from rose_spec.replies import StepRequest
from rose_spec.vectors import number_from_json, number_to_json, options_from_json, tensor_from_json

__all__ = ["Group", "ParamStep", "Trajectory", "update_by_oracle"]

STEP_OPTIONS: Final = ("lr", "weight_decay", "centralize", "stabilize", "compute_dtype", "maximize", "max_step")


@dataclass(frozen=True)
class ParamStep:
    """One step of one parameter, with its schedule and its noise resolved; `options` are in the form of JSON."""

    group: int
    position: int
    param: Tensor
    grad: Tensor
    options: Mapping[str, Any]
    noise: list[int] | None

    def request(self, name: str) -> StepRequest:
        """Return the request for this step."""
        return StepRequest(name, self.param, self.grad, self.options, self.noise)


class Group:
    """A group of parameters, and the state that it keeps from step to step; `value` is its JSON object."""

    words = staticmethod(noise_words)

    def __init__(self, value: Mapping[str, Any], first_index: int) -> None:
        self.options: dict[str, Any] = dict(value["options"])
        self.params = [tensor_from_json(param) for param in value["params"]]
        self.max_lr = number_from_json(value["max_lr"]) if "max_lr" in value else 0.0
        self.initial_lr = number_from_json(value["initial_lr"]) if "initial_lr" in value else 0.0
        self.first_index = first_index
        self.steps = 0

    @property
    def lr(self) -> float:
        """Return the learning rate of the current step."""
        return number_from_json(self.options["lr"])

    def record_initial_lr(self) -> None:
        """Record the first lr that is not 0 (ROSE-3.4)."""
        self.initial_lr = self.initial_lr or self.lr

    def reference(self) -> float | None:
        """Return the reference lr of the decay, or None without one (ROSE-3.3, ROSE-3.4)."""
        schedule = self.options.get("wd_schedule", False)
        if isinstance(schedule, bool):
            return (self.max_lr or self.initial_lr or None) if schedule else None
        return number_from_json(schedule) if isinstance(schedule, str) else float(schedule)  # ROSE-10.3

    def noise(self, position: int) -> list[int] | None:
        """Return a parameter's noise at this step, or None if it is rounded to nearest (ROSE-8.4, ROSE-9.2)."""
        param = self.params[position]
        if param.dtype != "bfloat16" or not self.options.get("bf16_sr", True):
            return None
        seed = int(self.options.get("sr_seed", "0"), 16)
        return self.words(len(param.values), seed=seed, step=self.steps, index=self.first_index + position)

    def step_options(self) -> dict[str, Any]:
        """Return the options of a single step in the form of JSON, without those that are left out."""
        options: dict[str, Any] = {name: self.options[name] for name in STEP_OPTIONS if name in self.options}
        reference = self.reference()
        return options if reference is None else {**options, "lr_reference": number_to_json(reference)}

    def count_step(self) -> None:
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

    def run(self, update: Callable[[ParamStep], Tensor]) -> list[list[Tensor]]:
        """Take all steps with `update` for each parameter, and return the last parameters of each group."""
        for step in self.steps:
            for group, lr in zip(self.groups, step["lr"], strict=True):
                group.options["lr"] = lr
                group.record_initial_lr()
            for param_step in self.param_steps(step):
                self.groups[param_step.group].params[param_step.position] = update(param_step)
            for group in self.groups:
                group.count_step()
        return [group.params for group in self.groups]

    def param_steps(self, step: Mapping[str, Any]) -> Iterator[ParamStep]:
        """Yield the steps of the parameters that have a gradient."""
        for number, (group, grads) in enumerate(zip(self.groups, step["grads"], strict=True)):
            for position, (param, grad) in enumerate(zip(group.params, grads, strict=True)):
                if grad is not None:
                    options, noise = group.step_options(), group.noise(position)
                    yield ParamStep(number, position, param, tensor_from_json(grad), options, noise)


def update_by_oracle(step: ParamStep) -> Tensor:
    """Return the parameter after a step of the oracle."""
    return Rule(options_from_json(step.options)).update(step.param, step.grad, step.noise).param
