"""A step in blocks: the three phases in their order, over a parameter of any size in temporaries of a fixed one."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from rose_core.advance import advance, advance_by_sign
from rose_core.decay import apply_decay
from rose_core.gate import Gate, denominators, gate
from rose_core.hyperparameters import Hyperparameters
from rose_core.namespace import Array, array_namespace, block_elements, dtype_name, quiet
from rose_core.partition import Block, partition
from rose_core.rounding import ComputeDtype, to_compute, to_storage
from rose_core.statistics import center, measure

__all__ = ["NoiseSource", "updated_blocks"]

NoiseSource = Callable[[int, int], Any]
"""Returns the noise words from `start` to `stop` of the flattened parameter, of which one range follows another."""


def updated_blocks(
    param: Array,
    grad: Array,
    options: Hyperparameters,
    *,
    factor: float,
    compute: ComputeDtype,
    noise: NoiseSource | None,
    size: int | None = None,
) -> Iterator[tuple[tuple[slice, ...], Any]]:
    """Return, block by block, an index of the parameter and the values there after a step that is checked already.

    Each block may be written before the next one is asked for, unless `grad` shares memory with `param`. `size`
    is how many elements a block has at most, and for how many slices at most the statistics are kept.
    """
    if 0 in param.shape:  # ROSE-1.4
        yield (slice(None),) * param.ndim, array_namespace(param).zeros_like(param)
        return
    size = block_elements(param) if size is None else size
    groups = partition(param.shape, size)
    step = _Step(param, _Gradient(grad, options.maximize, compute), options, factor, compute, noise)
    measured: Iterable[tuple[Any, Any]] = _Again(lambda: map(step.measured, groups))
    if param.ndim == 0 or param.shape[0] <= size:
        measured = list(measured)
    through = step.gate(measured)
    for group, (mean, range_) in zip(groups, measured, strict=True):
        for block in group:
            yield block.index, step.updated(block, mean, range_, through)


class _Again:
    """What is computed again whenever it is iterated over, since it is too much to be kept."""

    def __init__(self, compute: Callable[[], Iterator[Any]]) -> None:
        self._compute = compute

    def __iter__(self) -> Iterator[Any]:
        return self._compute()


class _Gradient:
    """The blocks of a gradient in the operation dtype, of which the last one is kept: it is often asked for again."""

    def __init__(self, grad: Array, maximize: bool, compute: ComputeDtype) -> None:
        self._grad, self._maximize, self._compute = grad, maximize, compute
        self._last: tuple[Block, Any] | None = None

    def __getitem__(self, block: Block) -> Any:
        if self._last is None or self._last[0] is not block:
            self._last = None  # before there is another
            g = to_compute(self._grad[block.index], self._compute)
            self._last = block, -g if self._maximize else g  # ROSE-1.3
        return self._last[1]


class _Step(NamedTuple):
    """The phases of a step, each on one block or the blocks of one slice."""

    param: Array
    gradient: _Gradient
    options: Hyperparameters
    factor: float
    compute: ComputeDtype
    noise: NoiseSource | None

    @quiet
    def measured(self, group: Sequence[Block]) -> tuple[Any, Any]:
        """Return the mean and the range of each slice, None where it has none."""
        if self.param.ndim == 0:
            return None, None
        parts = _Again(lambda: map(self.gradient.__getitem__, group))
        return measure(parts, self.param.shape, centralize=self.options.centralize, compute=self.compute)

    @quiet
    def gate(self, measured: Iterable[tuple[Any, Any]]) -> Gate | None:
        """Return the gate over all slices, if there is one."""
        ranges: Iterable[Any] = _Again(lambda: (range_ for _, range_ in measured))
        if isinstance(measured, list) and len(measured) > 1:
            ranges = [array_namespace(self.param).concat(list(ranges), axis=0)]
        return gate(ranges, self.param.shape, stabilize=self.options.stabilize, compute=self.compute)

    @quiet
    def updated(self, block: Block, mean: Array | None, range_: Array | None, through: Gate | None) -> Any:
        """Return the new values of a block."""
        xp, part = array_namespace(self.param), self.param[block.index]
        x = apply_decay(to_compute(part, self.compute), self.factor, self.compute)
        g = self.gradient[block]
        if range_ is None:
            x = advance_by_sign(x, g, lr=self.options.lr, compute=self.compute)
        else:
            g, denominator = center(g, mean, self.compute), denominators(range_, through, self.compute)
            x = advance(x, g, denominator, lr=self.options.lr, compute=self.compute)
        words = None if self.noise is None else xp.reshape(self.noise(block.start, block.stop), part.shape)
        return xp.reshape(to_storage(x, dtype_name(part), words), part.shape)
