"""The plan of a step: the parameters and gradients of all groups, checked, with the source of their noise."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from rose_core.noise import NoiseKey
from rose_plan import CheckCache, CheckedRow, Group, Plan
from rose_torch.distributed import any_dtensors, is_on_other_ranks
from rose_torch.graph import Gradients
from rose_torch.memory import Addresses, addresses_of, is_traced, materialized_gradients, require_traced_params
from rose_torch.noise import DrawnNoise
from rose_torch.options import StepGroup
from rose_torch.validation import as_numpy, check, is_plain

if TYPE_CHECKING:
    from rose_torch.distributed.shards import Shard

__all__ = ["Given", "SkippedStep", "TorchPlan", "given_of_group", "plan_step"]


class SkippedStep(Exception):  # noqa: N818  (it is no error, and never leaves an optimizer)
    """A step that the option `nonfinite` leaves out."""


class Given(NamedTuple):
    """Parameters of a group with their indices and gradients."""

    group: StepGroup
    indices: Sequence[int]
    params: Sequence[Tensor]
    grads: Sequence[Tensor]


@dataclass(frozen=True)
class TorchPlan(Plan):
    """A plan of torch parameters.

    Attributes
    ----------
    shards : the shards of DTensors, by their position in the plan.
    addresses : the addresses of the tensors, None where torch traces or transforms the step (`is_traced`).
    """

    shards: "Mapping[int, Shard]" = field(default_factory=dict)
    addresses: Addresses | None = None

    @property
    def is_traced(self) -> bool:
        """Whether torch traces or transforms the step, so that its tensors may have no values."""
        return self.addresses is None

    def whole_gradient(self, position: int) -> Any:
        """Return a gradient that is whole, of no subclass of Tensor and on the CPU; None if it is not."""
        grad = self.grads[position]
        return None if position in self.shards or not is_plain(grad) else as_numpy(grad)


def given_of_group(group: StepGroup, gradients: Gradients | None) -> Given:
    """Return the parameters of a group that have a gradient, on this rank.

    `gradients` holds parameters, each with its gradient, by index. None reads `param.grad`.
    """
    params = list(group.entries["params"])
    if gradients is None:
        grads: Sequence[Any] = [param.grad for param in params]
    else:
        held = [gradients.get(group.first + position, (param, None)) for position, param in enumerate(params)]
        params, grads = [param for param, _ in held], [grad for _, grad in held]
    positions = [position for position, grad in enumerate(grads) if grad is not None]
    if any_dtensors(params):
        positions = [position for position in positions if not is_on_other_ranks(params[position])]
    indices = [group.first + position for position in positions]
    return Given(group, indices, [params[i] for i in positions], [grads[i] for i in positions])


def plan_step(given: Sequence[Given], checks: CheckCache) -> TorchPlan:
    """Check parameters and their gradients, and return the plan of their updates. Nothing is changed."""
    owners = list(chain.from_iterable([part.group] * len(part.indices) for part in given))
    indices = list(chain.from_iterable(part.indices for part in given))
    params = list(chain.from_iterable(part.params for part in given))
    grads = list(chain.from_iterable(part.grads for part in given))
    shards: Mapping[int, Shard] = {}

    def name(position: int) -> str:
        return owners[position].name(indices[position])

    if any_dtensors(chain(params, grads)):
        from rose_torch.distributed.shards import local_shards  # noqa: PLC0415  (it is slow to load)

        params, grads, shards = local_shards(params, grads, name)

    def check_one(position: int) -> CheckedRow:
        group = owners[position]
        fused = group.fused is not False and position not in shards
        return check(params[position], grads[position], group.options, group.generator, name(position), fused=fused)

    options = [(_checked_options(part.group), len(part.indices)) for part in given]
    checked = checks.find(indices, params, grads, options, check_one)
    groups = [Group(part.group.options, part.group.decay, len(part.indices), part.group.fused) for part in given]
    noise = _noise(owners, indices, checked.stochastic)
    return _with_memory(TorchPlan(params, grads, groups, checked, noise, name, shards))


def _with_memory(plan: TorchPlan) -> TorchPlan:
    """Return the plan with the addresses of its tensors. No kernel runs where torch traces the step."""
    if is_traced():
        require_traced_params(plan.params, plan.name)
        return replace(plan, checked=replace(plan.checked, kernels=[None] * len(plan.params)))
    addresses = addresses_of(plan.params), addresses_of(plan.grads)
    copies = materialized_gradients(plan, addresses, plan.name)
    return replace(plan.with_gradients(copies), addresses=addresses)


def _checked_options(group: StepGroup) -> Hashable:
    """Return the options that the checks of parameters depend on."""
    options = group.options
    return options.centralize, options.stabilize, options.bf16_sr, options.compute_dtype, group.generator, group.fused


def _noise(
    owners: Sequence[StepGroup], indices: Sequence[int], stochastic: Sequence[bool]
) -> Sequence[NoiseKey | DrawnNoise | None]:
    """Return the source of each parameter's rounding noise, None without noise."""
    if not any(stochastic):
        return [None] * len(indices)
    return [
        _noise_of(group, index) if is_rounded else None
        for group, index, is_rounded in zip(owners, indices, stochastic, strict=True)
    ]


def _noise_of(group: StepGroup, index: int) -> NoiseKey | DrawnNoise:
    if group.options.sr_seed is None:
        return DrawnNoise(group.generator)
    return NoiseKey(group.options.sr_seed, group.entries["step"], index)
