"""A planned step of torch parameters: compiled kernels run the updates they can, the core runs the others in order."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor

from rose_core.chunks import NoiseSource, advance_in_place
from rose_core.noise import noise_in_range
from rose_kernels import Kernels
from rose_kernels import Requests as Launch
from rose_plan import Plan, shared_memory, update_by_core
from rose_torch.noise import DrawnNoise, drawn_words
from rose_torch.openmp import threads_of_torch

if TYPE_CHECKING:
    from rose_torch.distributed.shards import Shard

__all__ = ["TorchPlan", "noise_source", "run_plan"]

# Small parameters with drawn noise share a launch, for which at most this many words are drawn ahead (2 MiB). Each
# tensor counts for the Python objects of its words, too.
_MAX_WORDS: Final = 2**19
_WORDS_OF_A_TENSOR: Final = 128


@dataclass(frozen=True)
class TorchPlan(Plan):
    """A plan whose parameters may be shards of DTensors; `shards` has these by their position in the plan."""

    shards: "Mapping[int, Shard]" = field(default_factory=dict)


def run_plan(plan: TorchPlan, kernels: Kernels) -> None:
    """Run a planned step.

    Most updates by kernels share one launch. Other updates run one after the other, in the order of the parameters:
    by the core, with drawn noise, or of parameters that overlap in memory. Ranks communicate before the first write.
    """
    plan = _with_reduced_gradients(plan)
    addresses = _addresses_of(plan.params), _addresses_of(plan.grads)
    overlap = shared_memory(addresses[0], plan.checked.param_spans, addresses[1], plan.checked.grad_spans)
    plan = plan.with_gradients({position: plan.grads[position].clone() for position in overlap.grads})
    statistics = _statistics_of_shards(plan)
    fused = [position for position, kernel in enumerate(plan.checked.kernels) if kernel is not None]
    together = [i for i in fused if i not in overlap.params and not isinstance(plan.noise[i], DrawnNoise)]
    kernels.prepare(plan.checked.kernels)
    launch = plan.launch(*addresses)
    if together:
        kernels.run(launch.at(together), threads_of_torch())
    if len(together) < len(plan.params):
        others = sorted(set(range(len(plan.params))) - set(together))
        _run_in_order(plan, others, statistics, _Launcher(launch, kernels, overlap.params))
    # Autograd counts the writes of torch's operations, but does not see the writes of kernels.
    torch.autograd.graph.increment_version([plan.params[position] for position in fused])


def noise_source(noise: Any, param: Tensor) -> NoiseSource | None:
    """Return the source of a parameter's noise words, None without noise."""
    if noise is None:
        return None
    if isinstance(noise, DrawnNoise):
        return drawn_words(param, noise.generator)
    return partial(noise_in_range, noise, like=param)


def _run_in_order(
    plan: TorchPlan, positions: Sequence[int], statistics: Mapping[int, tuple[Any, Any]], launcher: "_Launcher"
) -> None:
    for position in positions:
        if plan.checked.kernels[position] is not None:
            launcher.run(position, plan.params[position], plan.noise[position])
            continue
        update = plan.update(position)
        if position in statistics:
            noise = plan.shards[position].noise_source(update.noise, update.param)
            advance_in_place(update.param, update.grad, *statistics[position], update.options, noise)
        else:
            update_by_core(update, noise_source(update.noise, update.param))
    launcher.flush()


class _Launcher:
    """Runs updates by kernels in order, and draws their noise in this order. Small ones share launches.

    Words of small parameters are drawn ahead, until `flush` launches them. A large parameter draws its words in
    pieces, while its kernel runs.
    """

    def __init__(self, launch: Launch, kernels: Kernels, overlapping: Collection[int]) -> None:
        self._launch, self._kernels, self._overlapping = launch, kernels, set(overlapping)
        self._words: dict[int, Tensor] = {}
        self._count = 0

    def run(self, position: int, param: Tensor, noise: Any) -> None:
        """Run the update at a position of the plan, now or with the next `flush`."""
        if not isinstance(noise, DrawnNoise):
            self._kernels.run(self._launch.at([position]), threads_of_torch())
            return
        draw, count = drawn_words(param, noise.generator), param.numel() + _WORDS_OF_A_TENSOR
        if position in self._overlapping or count > _MAX_WORDS:
            self._run_drawing(position, draw)
            return
        if self._count + count > _MAX_WORDS:
            self.flush()
        self._words[position] = draw(0, param.numel())
        self._count += count

    def flush(self) -> None:
        """Launch the updates whose words are drawn ahead."""
        if self._words:
            words = [drawn.data_ptr() for drawn in self._words.values()]
            self._kernels.run(self._launch.at(list(self._words))._replace(words=words), threads_of_torch())
        self._words, self._count = {}, 0

    def _run_drawing(self, position: int, draw: NoiseSource) -> None:
        def draw_range(start: int, stop: int) -> tuple[int, Any]:
            words = draw(start, stop)
            return words.data_ptr(), words

        launch = self._launch.at([position])._replace(noise=[None])
        self._kernels.run_drawing(launch, draw_range, threads_of_torch())


def _with_reduced_gradients(plan: TorchPlan) -> TorchPlan:
    """Return the plan after the all-reduce of gradients that backward left Partial, as sequence parallelism does."""
    partial_shards = {i: shard for i, shard in plan.shards.items() if shard.reduce is not None}
    if not partial_shards:
        return plan
    from rose_torch.distributed.step import with_reduced_gradients  # noqa: PLC0415  (it is slow to load)

    return with_reduced_gradients(plan, partial_shards)


def _statistics_of_shards(plan: TorchPlan) -> Mapping[int, tuple[Any, Any]]:
    """Return the mean and the denominator of each slice, for each shard of the plan."""
    if not plan.shards:
        return {}
    from rose_torch.distributed.step import statistics_of_shards  # noqa: PLC0415  (it is slow to load)

    updates = {position: plan.update(position) for position in plan.shards}
    return statistics_of_shards(updates, plan.shards)


def _addresses_of(tensors: Sequence[Tensor]) -> np.ndarray:
    return np.asarray([tensor.data_ptr() for tensor in tensors], np.int64)
