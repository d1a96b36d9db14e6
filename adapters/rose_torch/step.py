"""A planned step of torch parameters: compiled kernels run the updates they can, the core runs the others in order."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from rose_core.chunks import NoiseSource, advance_in_place
from rose_core.noise import noise_in_range
from rose_kernels import Kernels, Launch
from rose_plan import Update, update_by_core
from rose_torch.memory import find_overlap
from rose_torch.noise import DrawnNoise, drawn_words
from rose_torch.openmp import threads_of_torch
from rose_torch.plan import TorchPlan
from rose_torch.subclasses import require_operations, update_subclass
from rose_torch.validation import PLAIN_TYPES, as_numpy, is_plain

if TYPE_CHECKING:
    from rose_torch.distributed.shards import Shard

__all__ = ["noise_source", "prepare_run"]

# Small parameters with drawn noise share a launch, for which at most this many words are drawn ahead (2 MiB). Each
# tensor counts for the Python objects of its words, too.
_MAX_WORDS: Final = 2**19
_WORDS_OF_A_TENSOR: Final = 128


def prepare_run(plan: TorchPlan, kernels: Kernels) -> Callable[[], None]:
    """Return a function that writes the parameters of a planned step. Ranks communicate before that.

    Most updates by kernels share one launch. Other updates run one after the other, in the order of the parameters:
    by the core, with drawn noise, or of parameters that overlap in memory.
    """
    plan = _with_reduced_gradients(plan)
    overlap = find_overlap(plan, plan.addresses)
    plan = plan.with_gradients({position: plan.grads[position].clone() for position in overlap.grads})
    statistics = _statistics_of_shards(plan)
    subclassed = _subclassed(plan)
    for position in subclassed:
        require_operations(plan.update(position), plan.name(position))
    return partial(_run, plan, statistics, subclassed, _Launcher(plan, kernels, overlap.params))


def _run(
    plan: TorchPlan,
    statistics: Mapping[int, tuple[Any, Any]],
    subclassed: Collection[int],
    launcher: "_Launcher",
) -> None:
    """Write the parameters, given the statistics of shards, and the positions of tensor subclasses."""
    kernels = plan.checked.kernels
    fused: Sequence[int] = range(len(kernels))
    if None in kernels:
        fused = [position for position in fused if kernels[position] is not None]
    together = launcher.can_run_together(fused)
    launcher.run_together(together)
    if len(together) < len(plan.params):
        for position in sorted(set(range(len(plan.params))) - set(together)):
            if kernels[position] is not None:
                launcher.run(position, plan.params[position], plan.noise[position])
            elif position in statistics:
                _advance_shard(plan.update(position), plan.shards[position], *statistics[position])
            elif position in subclassed:
                update = plan.update(position)
                update_subclass(update, noise_source(update.noise, update.param))
            else:
                _update_by_core(plan.update(position), is_traced=plan.is_traced)
        launcher.flush()
    # Autograd counts the writes of torch's operations, but does not see those of kernels and of NumPy.
    torch.autograd.graph.increment_version([plan.params[position] for position in fused])


def _update_by_core(update: Update, *, is_traced: bool) -> None:
    """Run an update by the core, in one thread: on the memory of plain tensors as NumPy arrays, which is mostly faster.

    Float16 stays with torch, since NumPy converts it without the instructions of the processor.
    """
    is_float16 = update.options.compute == "fp16" or torch.float16 in (update.param.dtype, update.grad.dtype)
    if is_traced or is_float16 or not (is_plain(update.param) and is_plain(update.grad)):
        update_by_core(update, noise_source(update.noise, update.param))
        return
    arrays = replace(update, param=as_numpy(update.param), grad=as_numpy(update.grad))
    if isinstance(update.noise, DrawnNoise):
        draw = drawn_words(update.param, update.noise.generator)
        update_by_core(arrays, lambda start, stop: draw(start, stop).numpy())
    else:
        update_by_core(arrays, noise_source(update.noise, arrays.param))
    if update.param.numel():
        torch.autograd.graph.increment_version([update.param])


def _advance_shard(update: Update, shard: "Shard", mean: Any, denominator: Any) -> None:
    """Write a shard, given the statistics of its slices."""
    noise = shard.noise_source(update.noise, update.param)
    advance_in_place(update.param, update.grad, mean, denominator, update.options, noise)


def noise_source(noise: Any, param: Any) -> NoiseSource | None:
    """Return the source of a parameter's noise words, None without noise."""
    if noise is None:
        return None
    if isinstance(noise, DrawnNoise):
        return drawn_words(param, noise.generator)
    return partial(noise_in_range, noise, like=param)


def _subclassed(plan: TorchPlan) -> frozenset[int]:
    """Return the positions of parameters that are, or whose gradients are, of a subclass of Tensor."""
    if PLAIN_TYPES.issuperset(map(type, chain(plan.params, plan.grads))):
        return frozenset()
    types = zip(map(type, plan.params), map(type, plan.grads), strict=True)
    others = {position for position, both in enumerate(types) if not PLAIN_TYPES.issuperset(both)}
    return frozenset(others - set(plan.shards))


class _Launcher:
    """Launches the kernels of a plan, and draws noise for them in the order of the parameters.

    Words of small parameters are drawn ahead, until `flush` launches their updates together. A large parameter draws
    its words in pieces, while its kernel runs.
    """

    def __init__(self, plan: TorchPlan, kernels: Kernels, overlapping: Collection[int]) -> None:
        self._plan, self._kernels, self._overlapping = plan, kernels, set(overlapping)
        self._words: dict[int, Tensor] = {}
        self._count = 0

    @cached_property
    def _launch(self) -> Launch:
        assert self._plan.addresses is not None, "kernels update tensors with memory"
        return self._plan.launch(*self._plan.addresses)

    def can_run_together(self, positions: Sequence[int]) -> Sequence[int]:
        """Return the positions of the updates by kernels that may run at the same time."""
        noise = self._plan.noise
        if not self._overlapping and DrawnNoise not in set(map(type, noise)):
            return positions
        return [p for p in positions if p not in self._overlapping and not isinstance(noise[p], DrawnNoise)]

    def run_together(self, positions: Sequence[int]) -> None:
        """Run updates by kernels in one launch."""
        if positions:
            launch = self._launch if len(positions) == len(self._plan.params) else self._launch.at(positions)
            self._kernels.run(launch, threads_of_torch())

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
            self._kernels.run(self._launch.at(list(self._words))._replace(drawn_noise=words), threads_of_torch())
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
