"""Whether a variant of the oracle gives the same answers as a port."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count, islice
from typing import TypeAlias

from rose_spec.catalogue import Deviation, Stopped, Variant, overridden
from rose_spec.comparison import Level, Scale, compare, reaches, same
from rose_spec.oracle import Tensor
from rose_spec.outcome import Outcome
from rose_spec.replies import Answer, Exchange, Failed, NoiseRequest, Refused, Reply, StepRequest, Words
from rose_spec.trajectory import Group, ParamStep

__all__ = ["OutOfTime", "Replay"]

# The request to the variant (None for noise), the reply of the variant, and the exchange with the port.
_Entry: TypeAlias = tuple[StepRequest | None, Reply, Exchange]


class OutOfTime(Exception):  # noqa: N818  (no error)
    """The time for the search is over."""


class Replay:
    """The replies of variants to the requests that a port received; all of them are cached.

    Parameters
    ----------
    has_own_noise : bool
        Whether the port computes the noise of trajectories by itself.

    Attributes
    ----------
    deadline : float
        The time of `time.monotonic` from which on new replies raise `OutOfTime`.
    """

    def __init__(self, *, has_own_noise: bool = False) -> None:
        self._has_own_noise = has_own_noise
        self.deadline = math.inf
        self._replies: dict[tuple[frozenset[Deviation], int], _Log] = {}
        self._effective: dict[tuple[frozenset[Deviation], int], _Log] = {}

    def reproduces(self, deviations: Sequence[Deviation], outcome: Outcome, level: Level) -> bool:
        """Tell whether the oracle with deviations gives all answers of a port, compared at a level.

        Each step of a trajectory starts from the port's parameter.
        """
        log = self._log(deviations, outcome)
        if level not in log.agreements:
            log.agreements[level] = all(
                _agree(reply, exchange, request, outcome, level) for request, reply, exchange in log
            )
        return log.agreements[level]

    def changes(self, deviations: Sequence[Deviation], outcome: Outcome) -> bool:
        """Tell whether deviations change any reply of the oracle."""
        changed, right = self._log(deviations, outcome), self._log((), outcome)
        if changed is right:
            return False
        pairs = zip(changed, right, strict=False)
        return any(not _same(request, reply, other) for (request, reply, _), (_, other, _) in pairs)

    def leaves_unanswered(self, deviations: Sequence[Deviation], outcome: Outcome) -> bool:
        """Tell whether the oracle with deviations fails to answer a request."""
        return any(isinstance(reply, Failed) for _, reply, _ in self._log(deviations, outcome))

    def _log(self, deviations: Sequence[Deviation], outcome: Outcome) -> "_Log":
        """Return the log of those deviations that have an effect on an outcome, which many sets share."""
        key = (frozenset(deviations), id(outcome))
        if key not in self._effective:
            chosen: frozenset[Deviation] = frozenset()
            log = self._exact_log(chosen, outcome)
            while more := {d for d in deviations if d not in chosen and _has_effect(d, outcome, log)}:
                chosen |= more
                log = self._exact_log(chosen, outcome)
                if len(chosen) == len(key[0]):
                    break
            self._effective[key] = log
        return self._effective[key]

    def _exact_log(self, deviations: frozenset[Deviation], outcome: Outcome) -> "_Log":
        key = (deviations, id(outcome))
        if key not in self._replies:
            if time.monotonic() >= self.deadline:
                raise OutOfTime
            # Each log has its own variant, which records the methods that are called.
            variant = Variant(list(deviations), has_own_noise=self._has_own_noise)
            self._replies[key] = _Log(variant, outcome)
        return self._replies[key]


def _has_effect(deviation: Deviation, outcome: Outcome, log: "_Log") -> bool:
    """Tell whether a deviation may change the replies of a log: whether anything that it overrides is used."""
    changes_group = deviation.group is not Group or deviation.noise is not None
    if changes_group and outcome.vector.kind in ("trajectory", "noise"):
        return True
    if deviation.lenient and any(isinstance(reply, Refused) for _, reply, _ in log):
        return True
    requests = [exchange.request for exchange in outcome.exchanges if isinstance(exchange.request, StepRequest)]
    if any(name not in request.options for name in deviation.defaults for request in requests):
        return True
    return not log.called().isdisjoint(overridden(deviation))


class _Log:
    """The replies of a variant to the requests of one vector, each computed when it is first read, and cached."""

    def __init__(self, variant: Variant, outcome: Outcome) -> None:
        self.variant, self.source, self.entries = variant, _entries(variant, outcome), list[_Entry]()
        self.agreements: dict[Level, bool] = {}

    def called(self) -> set[str]:
        """Return the names of the methods that all replies need."""
        for _ in self:
            pass
        return self.variant.called

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
            yield None, variant.noise(request), exchange
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
