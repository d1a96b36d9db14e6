"""One step of a rule on one parameter, in place: weight decay, chunks, and rounding to storage."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, Final, NamedTuple

from rose_core.chunks import elements_of_chunk
from rose_core.hyperparameters import unsigned
from rose_core.namespace import Array, array_namespace, dtype_name, quiet
from rose_core.noise import NoiseKey
from rose_core.peers.arithmetic import total_of
from rose_core.peers.base import STATE_NOISE, At, Rule, Total, round_states, widen_states
from rose_core.peers.options import boolean, check_options, choice, number, optional
from rose_core.peers.states import leaves, map_leaves
from rose_core.rounding import to_compute, to_storage
from rose_plan.memory import shared_memory, spans_of

__all__ = [
    "GROUP_OPTIONS",
    "Application",
    "GroupOptions",
    "NoiseAt",
    "Step",
    "chunks",
    "options_of",
    "step_in_place",
    "weight_decay_of",
    "with_copied_gradients",
    "with_totals",
]

NoiseAt = Callable[[int, int, int], Any]
"""Returns the noise words, in int32, at the positions ``first + start`` to before ``first + stop``.

`start` and `stop` are positions in the flattened parameter. `first` is 0 for the parameter, and a multiple of
`rose_core.peers.base.STATE_NOISE` for a state.
"""


@dataclass(frozen=True, kw_only=True)
class GroupOptions:
    """The options of a parameter group of an optimizer.

    Parameters
    ----------
    rule : Rule
        The rule.
    lr : float
        Learning rate, a finite number >= 0.
    weight_decay : float or None
        Coefficient of the weight decay, a finite number >= 0. None is the default of the rule.
    weight_decay_method : str
        A decay of the parameter by ``lr * weight_decay`` ("decoupled"), by ``weight_decay`` ("independent") or by
        ``lr**2 * weight_decay`` ("palm"). "l2" adds a multiple of the parameter to the gradient that the rule reads.
    maximize : bool
        Whether to ascend the gradient.
    bf16_sr : bool
        Whether bfloat16 parameters and states are rounded stochastically.
    sr_seed : int
        Seed of the portable noise, in [0, 2**64).

    Raises
    ------
    TypeError, ValueError
        If an option has a value that is not allowed; the message names it.
    """

    rule: Rule
    lr: float = number(MISSING, least=0.0)
    weight_decay: float | None = optional(number(0.0, least=0.0))
    weight_decay_method: str = choice("decoupled", "independent", "l2", "palm")
    maximize: bool = boolean(False)
    bf16_sr: bool = boolean(True)
    sr_seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.rule, Rule):
            raise TypeError(f"rule must be a rule of rose_core.peers, as Adam() is, got {self.rule!r}")
        check_options(self)
        unsigned("sr_seed", self.sr_seed, bits=64)

    def at(self, step: int, index: int, param: Array, rule: Rule) -> "At":
        """Return the numbers of a step of the parameter with this index, whose rule is `rule` or a part of it."""
        key = NoiseKey(int(self.sr_seed), step - 1, index)
        return At(step, self.lr, rule.compute_dtype, key, tuple(param.shape))

    def application(self, rule: Rule) -> "Application":
        """Return how a step applies the rule of a parameter, which is `rule` or a part of it."""
        weight_decay = rule.default_weight_decay if self.weight_decay is None else self.weight_decay
        decay, l2 = weight_decay_of(self.lr, weight_decay, self.weight_decay_method)
        return Application(decay, l2, self.maximize)


class Application(NamedTuple):
    """How a step applies a rule.

    Attributes
    ----------
    decay : the factor that the parameter shrinks by before the step.
    l2 : the multiple of the parameter that is added to the gradient.
    maximize : whether to ascend the gradient.
    """

    decay: float = 1.0
    l2: float = 0.0
    maximize: bool = False


def weight_decay_of(lr: float, weight_decay: float, method: str) -> tuple[float, float]:
    """Return the factor that the parameter shrinks by, and the multiple of it that is added to the gradient.

    A step subtracts ``lr * weight_decay`` times the parameter ("decoupled"), ``weight_decay`` times ("independent") or
    ``lr**2 * weight_decay`` times ("palm"), or the gradient gets ``weight_decay`` times the parameter ("l2").
    """
    if method == "l2":
        return 1.0, weight_decay
    scale = {"decoupled": lr, "independent": 1.0, "palm": lr * lr}[method]
    return 1.0 - scale * weight_decay, 0.0


GROUP_OPTIONS: Final = tuple(field.name for field in fields(GroupOptions))


def options_of(group: Mapping[str, Any], number: int) -> GroupOptions:
    """Return the options of the parameter group with a number, validated again: its owner may have changed them."""
    if missing := [option for option in GROUP_OPTIONS if option not in group]:
        raise ValueError(f"group {number} lacks {', '.join(missing)}")
    return GroupOptions(**{option: group[option] for option in GROUP_OPTIONS})


class Step(NamedTuple):
    """One step of one parameter: its arguments, checked already.

    Attributes
    ----------
    rule : the rule of this parameter, as `Rule.for_shape` returns it.
    param, grad, state : the arrays. The gradient shares no memory with the others.
    at, application : the numbers of the step.
    noise : rounds bfloat16 stochastically; None rounds to nearest.
    """

    rule: Rule
    param: Array
    grad: Array
    state: Any
    at: At
    application: Application
    noise: NoiseAt | None


def with_copied_gradients(
    steps: Sequence[Step], addresses_of: Callable[[Sequence[Any]], Any], span: Callable[[Any], tuple[int, int]]
) -> list[Step]:
    """Return the steps with copies of the gradients that share memory with a parameter."""
    params, grads = [step.param for step in steps], [step.grad for step in steps]
    spans = [spans_of(map(span, arrays)) for arrays in (params, grads)]
    shared = shared_memory(addresses_of(params), spans[0], addresses_of(grads), spans[1]).grads
    copies = {position: array_namespace(grads[position]).asarray(grads[position], copy=True) for position in shared}
    return [step._replace(grad=copies.get(position, step.grad)) for position, step in enumerate(steps)]


@quiet
def with_totals(steps: Sequence[Step], rules: Sequence[Rule]) -> list[Step]:
    """Return the steps with the norms over all parameters that their rules read.

    `rules` has the rule of the group of each step. A norm is over the parameters of all groups with equal rules.
    """
    parts: dict[Rule, list[Total]] = {}
    for step, rule in zip(steps, rules, strict=True):
        if step.rule.reads_total and 0 not in step.param.shape and (part := _summand(step)) is not None:
            parts.setdefault(rule, []).append(part)
    totals = {rule: total_of(of_rule) for rule, of_rule in parts.items()}
    return [step._replace(at=step.at._replace(total=totals.get(rule))) for step, rule in zip(steps, rules, strict=True)]


@quiet
def step_in_place(step: Step, *, max_elements: int | None = None) -> None:
    """Overwrite a parameter and its state by their values after a step.

    An elementwise rule runs in chunks of at most `max_elements` elements.
    """
    rule, param, grad, state, at, application, noise = step
    if 0 in param.shape and not rule.is_elementwise:
        return  # a shard without elements has numbers in its state, too
    shape, scalars = param.shape, state
    for index, start in chunks(param, max_elements) if rule.is_elementwise else [(..., 0)]:
        held = map_leaves(lambda leaf, index=index: leaf[index] if leaf.shape == shape else leaf, state)
        x, g = to_compute(param[index], at.compute), to_compute(grad[index], at.compute)
        g = _gradient(g, x, application)
        x, new = rule.advance(g, widen_states(held, at.compute), x, at, application.decay)

        def words(first: int, like: Any, start: int = start) -> Any:
            if noise is None:
                return None
            # A state that is not of the parameter's shape is not cut into chunks.
            return array_namespace(like).reshape(noise(first, start, start + math.prod(like.shape)), like.shape)

        is_stochastic = dtype_name(param) == "bfloat16"
        param[index] = to_storage(x, dtype_name(param), words(0, x) if is_stochastic else None)  # type: ignore[index]
        rounded = round_states(new, held, lambda number, like: words((number + 1) * STATE_NOISE, like))
        for leaf, values in zip(leaves(state), leaves(rounded), strict=True):
            if leaf is not None and leaf.shape == shape:
                leaf[index] = values
        scalars = rounded
    # Each chunk reads the old numbers of the state, so the new ones are written last.
    for leaf, values in zip(leaves(state), leaves(scalars), strict=True):
        if leaf is not None and leaf.shape != shape:
            leaf[...] = values


def _gradient(g: Any, x: Any, application: Application) -> Any:
    """Return the gradient that the rule reads."""
    g = -g if application.maximize else g
    return g + application.l2 * x if application.l2 else g


def _summand(step: Step) -> Total | None:
    x, g = to_compute(step.param, step.at.compute), to_compute(step.grad, step.at.compute)
    wide = widen_states(step.state, step.at.compute)
    return step.rule.summand(_gradient(g, x, step.application), wide, x, step.at)


def chunks(x: Array, max_elements: int | None = None) -> Iterator[tuple[Any, int]]:
    """Yield the index of each chunk of an array, and its start in the flattened array."""
    max_elements = elements_of_chunk(x) if max_elements is None else max_elements
    if math.prod(x.shape) <= max_elements:
        yield ..., 0
    else:
        yield from _chunks(tuple(x.shape), max_elements, (), 0)


def _chunks(
    shape: tuple[int, ...], max_elements: int, leading: tuple[int, ...], first: int
) -> Iterator[tuple[Any, int]]:
    """Yield chunks of the sub-array at the leading indices, which begins at position `first`."""
    length = math.prod(shape[1:])
    if length > max_elements:
        for i in range(shape[0]):
            yield from _chunks(shape[1:], max_elements, (*leading, i), first + i * length)
        return
    rows = max_elements // length
    for start in range(0, shape[0], rows):
        yield (*leading, slice(start, start + rows)), first + start * length
