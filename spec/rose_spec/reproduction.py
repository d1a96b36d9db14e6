"""Whether a variant of the oracle gives the same answers as a port."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count, islice
from typing import TypeAlias

from rose_spec.catalogue import Deviation, Stopped, Variant
from rose_spec.comparison import Level, Scale, compare, reaches, same
from rose_spec.noise import noise_words
from rose_spec.oracle import Tensor
from rose_spec.outcome import Outcome
from rose_spec.replies import Answer, Exchange, Failed, NoiseRequest, Refused, Reply, StepRequest, Words
from rose_spec.trajectory import ParamStep

__all__ = ["Replay"]

# The request to the variant (None for noise), the reply of the variant, and the exchange with the port.
_Entry: TypeAlias = tuple[StepRequest | None, Reply, Exchange]


class Replay:
    """The replies of variants to the requests that a port received; all of them are cached."""

    def __init__(self) -> None:
        self._variants: dict[frozenset[Deviation], Variant] = {}
        self._replies: dict[tuple[frozenset[Deviation], int], _Log] = {}
        self._agreements: dict[tuple[frozenset[Deviation], int, Level], bool] = {}

    def reproduces(self, deviations: Sequence[Deviation], outcome: Outcome, level: Level) -> bool:
        """Tell whether the oracle with deviations gives all answers of a port, compared at a level.

        Each step of a trajectory starts from the port's parameter.
        """
        key = (frozenset(deviations), id(outcome), level)
        if key not in self._agreements:
            log = self._log(deviations, outcome)
            self._agreements[key] = all(
                _agree(reply, exchange, request, outcome, level) for request, reply, exchange in log
            )
        return self._agreements[key]

    def changes(self, deviations: Sequence[Deviation], outcome: Outcome) -> bool:
        """Tell whether deviations change any reply of the oracle."""
        pairs = zip(self._log(deviations, outcome), self._log((), outcome), strict=False)
        return any(not _same(request, reply, right) for (request, reply, _), (_, right, _) in pairs)

    def leaves_unanswered(self, deviations: Sequence[Deviation], outcome: Outcome) -> bool:
        """Tell whether the oracle with deviations fails to answer a request."""
        return any(isinstance(reply, Failed) for _, reply, _ in self._log(deviations, outcome))

    def _log(self, deviations: Sequence[Deviation], outcome: Outcome) -> "_Log":
        variant_key = frozenset(deviations)
        key = (variant_key, id(outcome))
        if key not in self._replies:
            if variant_key not in self._variants:
                self._variants[variant_key] = Variant(deviations)
            self._replies[key] = _Log(_entries(self._variants[variant_key], outcome))
        return self._replies[key]


class _Log:
    """The entries of one vector, each computed when it is first read, and cached."""

    def __init__(self, source: Iterator[_Entry]) -> None:
        self.source, self.entries = source, list[_Entry]()

    def __iter__(self) -> Iterator[_Entry]:
        for index in count():
            if index == len(self.entries):
                self.entries += islice(self.source, 1)
            if index == len(self.entries):
                return
            yield self.entries[index]


def _entries(variant: Variant, outcome: Outcome) -> Iterator[_Entry]:
    """Yield a variant's reply to each request of an outcome."""
    if outcome.vector.kind == "trajectory":
        yield from _trajectory_entries(variant, outcome)
        return
    for exchange in outcome.exchanges:
        request = exchange.request
        if isinstance(request, NoiseRequest):
            words = noise_words(request.count, seed=request.seed, step=request.step, index=request.index)
            yield None, Words(words), exchange
        else:
            yield request, variant.step(request), exchange


def _trajectory_entries(variant: Variant, outcome: Outcome) -> list[_Entry]:
    """Return a variant's replies to the steps of a trajectory, each from the port's parameter."""
    entries: list[_Entry] = []
    exchanges = iter(outcome.exchanges)

    def update(step: ParamStep) -> Tensor:
        exchange = next(exchanges, None)
        if exchange is None or not isinstance(exchange.request, StepRequest):
            raise Stopped
        request = replace(step.request(exchange.request.id), param=exchange.request.param)
        entries.append((request, variant.step(request), exchange))
        if not isinstance(exchange.reply, Answer):
            raise Stopped
        return exchange.reply.param

    with suppress(Stopped):
        variant.trajectory(outcome.vector.input).run(update)
    return entries


def _agree(predicted: Reply, exchange: Exchange, request: StepRequest | None, outcome: Outcome, level: Level) -> bool:
    """Tell whether a port's reply is the predicted one."""
    reply = exchange.reply
    if isinstance(predicted, Answer) and isinstance(reply, Answer) and request is not None:
        if outcome.vector.kind == "refusal":
            return True  # a step that must be refused has no right answer
        return _is_close(reply.param, predicted.param, request, level)
    if isinstance(predicted, Words):
        return predicted == reply
    if isinstance(predicted, Refused):
        return isinstance(reply, Refused)
    return not isinstance(predicted, Answer) and not isinstance(reply, Answer)


def _same(request: StepRequest | None, one: Reply, other: Reply) -> bool:
    """Tell whether two replies of variants are equal."""
    if isinstance(one, Answer) and isinstance(other, Answer) and request is not None:
        return _is_close(one.param, other.param, request, "exact")
    return type(one) is type(other)


def _is_close(got: Tensor, predicted: Tensor, request: StepRequest, level: Level) -> bool:
    """Tell whether an answer reaches a level; after stochastic rounding, words of NaN count too (ROSE-8.2)."""
    if not reaches(compare(got, predicted, replace(Scale.of(request), stochastic=False)).level, level):
        return False
    pairs = zip(got.values, predicted.values, strict=True)
    # If the predicted NaN is not canonical, a NaN with any word agrees.
    return request.noise is None or all(same(a, a, any_nan=not same(b, b, any_nan=False)) for a, b in pairs)
