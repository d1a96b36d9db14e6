"""Which deviations give the answers of a run: all of them, or as many as can be had."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, TypeAlias

from rose_spec.catalogue import Deviation
from rose_spec.check import Outcome
from rose_spec.comparison import Level, reaches
from rose_spec.replies import StepRequest
from rose_spec.reproduction import Replay

__all__ = ["Deviations", "Found", "Search"]

Deviations: TypeAlias = tuple[Deviation, ...]

# So many failures are looked at, of all sizes, before a deviation or a pair is tried on all of them.
SAMPLE: Final = 12
# The same where some are to be explained: more, as some of them may be left out.
PARTLY_SAMPLED: Final = 20
# Deviations that hold together in part, and how many sets of them are followed up.
TOGETHER: Final = 4
FOLLOWED: Final = 2
# The work of a vector, as `_size` has it, that is left to the end.
LARGE: Final = 120


@dataclass(frozen=True)
class Found:
    """Deviations that explain some failures.

    Attributes
    ----------
    deviations : tuple of Deviation
        All of them together.
    explained : list of Outcome
        The failures they explain.
    passing, otherwise : int
        How many answers they contradict: right ones that they change, and failures they get wrong otherwise.
    """

    deviations: Deviations
    explained: list[Outcome]
    passing: int
    otherwise: int

    @property
    def score(self) -> int:
        """Return how many failures more are explained than answers are contradicted."""
        return len(self.explained) - self.passing - self.otherwise

    def explains_as(self, other: "Found") -> bool:
        """Tell whether two explain and contradict the same."""
        numbers = (self.passing, self.otherwise) == (other.passing, other.otherwise)
        return numbers and {id(o) for o in self.explained} == {id(o) for o in other.explained}


class Search:
    """The answers of a run, at one level, and the deviations that may explain them."""

    def __init__(
        self, answered: Sequence[Outcome], level: Level, catalogue: Sequence[Deviation], replay: Replay
    ) -> None:
        self.level, self.catalogue, self.replay = level, catalogue, replay
        self.failing = sorted((o for o in answered if not _right(o, level)), key=_size)
        self.passing = sorted((o for o in answered if _right(o, level)), key=_size)
        self.small = [o for o in self.passing if _size(o) < LARGE]
        self.sample = _spread(self.failing, SAMPLE)

    def whole(self) -> list[Deviations]:
        """Return the deviations that explain the run: the alternatives of least number, none if there are none."""
        singles: list[Deviations] = [(one,) for one in self.catalogue if self.holds((one,))]
        if singles:
            return singles
        named = self.named()
        for count in range(2, len(named) + 1):
            if found := [some for some in combinations(named, count) if self.holds(some)]:
                return found
        return next(([pair] for pair in self.pairs() if self.holds(pair)), [])

    def holds(self, deviations: Deviations) -> bool:
        """Tell whether deviations explain every answer."""
        parts = (self.sample, self.failing, self.passing)
        return all(self.gives(deviations, outcome) for part in parts for outcome in part)

    def gives(self, deviations: Deviations, outcome: Outcome) -> bool:
        """Tell whether deviations give an answer."""
        return self.replay.reproduces(deviations, outcome, self.level)

    def named(self) -> list[Deviation]:
        """Return up to four deviations that explain the most of the sample, one after the other."""
        rest, named = list(self.sample), list[Deviation]()
        while rest and len(named) < TOGETHER:
            counts = {one: sum(self.gives((one,), o) for o in rest) for one in self.catalogue}
            best = max(counts, key=counts.__getitem__)
            if not counts[best]:
                break
            named.append(best)
            rest = [o for o in rest if not self.gives((best,), o)]
        return named

    def pairs(self) -> Iterator[tuple[Deviation, Deviation]]:
        """Yield the pairs that may explain the sample: where one changes nothing, the other must be right alone."""
        sample = _spread(self.sample, 8)
        table: dict[Deviation, list[tuple[bool, bool]]] = {}
        for one in self.catalogue:
            table[one] = [(self.replay.changes((one,), o), self.gives((one,), o)) for o in sample]
        for a, b in combinations(self.catalogue, 2):
            rows = zip(table[a], table[b], strict=True)
            if all(
                right_a or right_b or (changed_a and changed_b) for (changed_a, right_a), (changed_b, right_b) in rows
            ):
                yield a, b

    def part(self, failing: Sequence[Outcome]) -> list[Found]:
        """Return the deviations that explain the most of some failures, with their equals; none if there are none.

        They grow one by one. The most promising sets are tried on all answers, those that explain more by each
        deviation are kept; a set that contradicts more right answers than it explains failures is not.
        """
        best: list[Found] = []
        some = [o for o in failing if _size(o) < LARGE] or failing
        followed: list[Deviations] = [()]
        for number in range(TOGETHER):
            found = [f for f in (self.found(one, some) for one in self._promising(followed, some)) if f.explained]
            named = sorted((f for f in found if f.passing < len(f.explained)), key=lambda f: -f.score)
            if improved := bool(named) and (not best or named[0].score > best[0].score):
                best = [f for f in named if f.explains_as(named[0])]
            # One of two may get wrong most of what it explains with the other, so that all first ones are followed.
            if not found or (improved and len(best[0].explained) == len(some)) or (number > 0 and not improved):
                break
            found.sort(key=lambda f: f.passing - len(f.explained))
            followed = [f.deviations for f in found[: FOLLOWED if number == 0 else 1]]
        return self._equals([self.found(f.deviations, failing, self.passing) for f in best])

    def _equals(self, found: Sequence[Found]) -> list[Found]:
        """Return the best, on all answers, with its equals."""
        named = sorted((f for f in found if f.passing < len(f.explained)), key=lambda f: -f.score)
        return [f for f in named if f.explains_as(named[0])]

    def found(
        self, deviations: Deviations, failing: Sequence[Outcome], passing: Sequence[Outcome] | None = None
    ) -> Found:
        """Return what deviations explain of some failures, and how much they contradict, of all or the small ones."""
        passing = self.small if passing is None else passing
        explained = [o for o in failing if self.gives(deviations, o)]
        wrong = [o for o in failing if not self.gives(deviations, o)]
        otherwise = sum(self.replay.changes(deviations, o) for o in wrong)
        return Found(deviations, explained, sum(not self.gives(deviations, o) for o in passing), otherwise)

    def _promising(self, followed: Sequence[Deviations], failing: Sequence[Outcome]) -> list[Deviations]:
        """Return sets of one deviation more that gain the most in a sample of what is not explained yet."""
        gains: dict[frozenset[Deviation], tuple[int, Deviations]] = {}
        passing = _spread(self.small, PARTLY_SAMPLED)
        for deviations in followed:
            rest = [o for o in failing if not deviations or not self.gives(deviations, o)]
            defaults = [o for o in rest if o.vector.id.startswith("defaults-")]
            kept = _spread([o for o in failing if deviations and self.gives(deviations, o)], SAMPLE)
            sample = [*_spread(rest, PARTLY_SAMPLED), *_spread(defaults, SAMPLE)]
            for one in self.catalogue:
                some = (*deviations, one)
                if one in deviations or frozenset(some) in gains:
                    continue
                if gain := sum(self.gives(some, o) for o in sample):
                    lost = sum(not self.gives(some, o) for o in (*kept, *passing))
                    gains[frozenset(some)] = (gain - lost, some)
        best = sorted(gains.values(), key=lambda item: -item[0])
        return [some for _, some in best[: 2 * FOLLOWED]]


def _spread(outcomes: Sequence[Outcome], count: int) -> list[Outcome]:
    """Return so many of the outcomes, from all of them."""
    return list(outcomes[:: max(1, len(outcomes) // count)][:count])


def _right(outcome: Outcome, level: Level) -> bool:
    """Tell whether an answer reaches a level."""
    return outcome.status in ("passed", "failed") and reaches(outcome.level, level)


def _size(outcome: Outcome) -> int:
    """Return how much work a vector is: its elements, and as much again for every request."""
    requests = (exchange.request for exchange in outcome.exchanges)
    return sum(4 + len(request.param.values) for request in requests if isinstance(request, StepRequest))
