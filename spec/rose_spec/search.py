"""Search for the deviations that reproduce the answers of a run, all of them or as many as possible."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, TypeAlias

from rose_spec.catalogue import Deviation
from rose_spec.comparison import Level, reaches
from rose_spec.outcome import Outcome
from rose_spec.replies import StepRequest
from rose_spec.reproduction import OutOfTime, Replay

__all__ = ["Search"]

Deviations: TypeAlias = tuple[Deviation, ...]

# Failures, spread over all sizes, on which a deviation or a pair is tried before it is tried on all of them.
SAMPLE_SIZE: Final = 12
# The same for a partial explanation, which needs more of them since it may leave some out.
PARTIAL_SAMPLE_SIZE: Final = 20
# The most deviations in one explanation.
MAX_DEVIATIONS: Final = 4
# The sets of deviations that the partial search extends in each round.
BEAM_WIDTH: Final = 2
# Vectors of this work (see `_work`) and more are compared last.
LARGE_WORK: Final = 60


@dataclass(frozen=True)
class Match:
    """A set of deviations, and the failures that it explains.

    Attributes
    ----------
    deviations : tuple of Deviation
        The deviations, which hold together.
    explained : list of Outcome
        The failures whose answers they reproduce.
    broken : int
        The number of right answers that they would change.
    misses : int
        The number of failures that they change without reproducing them.
    """

    deviations: Deviations
    explained: list[Outcome]
    broken: int
    misses: int

    @property
    def score(self) -> int:
        """Return the number of explained failures minus the number of contradicted answers."""
        return len(self.explained) - self.broken - self.misses

    def is_tied_with(self, other: "Match") -> bool:
        """Tell whether two matches explain the same failures, and contradict as many answers."""
        counts = (self.broken, self.misses) == (other.broken, other.misses)
        return counts and {id(o) for o in self.explained} == {id(o) for o in other.explained}


class Search:
    """A search over a catalogue of deviations for the answers of a run, compared at one level."""

    def __init__(
        self, answered: Sequence[Outcome], level: Level, catalogue: Sequence[Deviation], replay: Replay
    ) -> None:
        self.level, self.catalogue, self.replay = level, catalogue, replay
        self.failing = sorted((o for o in answered if not _is_right(o, level)), key=_work)
        self.passing = sorted((o for o in answered if _is_right(o, level)), key=_work)
        self.small = [o for o in self.passing if _work(o) < LARGE_WORK]
        self.sample = _spread(self.failing, SAMPLE_SIZE)

    def full_explanations(self) -> list[Deviations]:
        """Return the smallest sets of deviations that explain every answer; an empty list if there are none."""
        singles: list[Deviations] = [(one,) for one in self.catalogue if self.explains_all((one,))]
        if singles:
            return singles
        greedy = self.greedy()
        for count in range(2, len(greedy) + 1):
            if found := [chosen for chosen in combinations(greedy, count) if self.explains_all(chosen)]:
                return found
        return next(([pair] for pair in self.pairs() if self.explains_all(pair)), [])

    def explains_all(self, deviations: Deviations) -> bool:
        """Tell whether deviations explain every answer."""
        parts = (self.sample, self.failing, self.passing)
        return all(self.explains(deviations, outcome) for part in parts for outcome in part)

    def explains(self, deviations: Deviations, outcome: Outcome) -> bool:
        """Tell whether deviations reproduce the answers of an outcome."""
        return self.replay.reproduces(deviations, outcome, self.level)

    def greedy(self) -> list[Deviation]:
        """Return up to four deviations; each one explains the most of the sample that is still unexplained."""
        rest, chosen = list(self.sample), list[Deviation]()
        while rest and len(chosen) < MAX_DEVIATIONS:
            counts = {one: sum(self.explains((one,), o) for o in rest) for one in self.catalogue}
            best = max(counts, key=counts.__getitem__)
            if not counts[best]:
                break
            chosen.append(best)
            rest = [o for o in rest if not self.explains((best,), o)]
        return chosen

    def pairs(self) -> Iterator[tuple[Deviation, Deviation]]:
        """Yield the pairs for which one of the two explains each sampled failure, or both of them change it."""
        sample = _spread(self.sample, 8)
        table: dict[Deviation, list[tuple[bool, bool]]] = {}
        for one in self.catalogue:
            table[one] = [(self.replay.changes((one,), o), self.explains((one,), o)) for o in sample]
        for a, b in combinations(self.catalogue, 2):
            rows = zip(table[a], table[b], strict=True)
            if all(
                right_a or right_b or (changed_a and changed_b) for (changed_a, right_a), (changed_b, right_b) in rows
            ):
                yield a, b

    def partial_explanations(self, failing: Sequence[Outcome]) -> list[Match]:
        """Return the best match of some failures, with the matches that tie with it; an empty list if there is none.

        If the time is over, this is the best match so far, on the small vectors.

        This is a beam search. Each round adds one deviation to the most promising sets, and tries the new sets on the
        small vectors. A set that would change more right answers than it explains failures is dropped.
        """
        small = [o for o in failing if _work(o) < LARGE_WORK] or failing
        rounds: list[list[Match]] = [[]]
        try:
            rounds.extend(self._improving(small))
            ranked = _ranked([self.match(m.deviations, failing, self.passing) for m in rounds[-1]])
        except OutOfTime:
            ranked = rounds[-1]
        return [m for m in ranked if m.is_tied_with(ranked[0])]

    def _improving(self, small: Sequence[Outcome]) -> Iterator[list[Match]]:
        """Yield the best matches of some failures, after each round that improves them."""
        best: list[Match] = []
        beam: list[Deviations] = [()]
        for number in range(MAX_DEVIATIONS):
            matches = [m for m in (self.match(chosen, small) for chosen in self._extended(beam, small)) if m.explained]
            ranked = _ranked(matches)
            if improved := bool(ranked) and (not best or ranked[0].score > best[0].score):
                best = [m for m in ranked if m.is_tied_with(ranked[0])]
                yield best
            # The first round continues without an improvement: a deviation may explain little without a second one.
            if not matches or (improved and len(best[0].explained) == len(small)) or (number > 0 and not improved):
                break
            matches.sort(key=lambda m: m.broken - len(m.explained))
            beam = [m.deviations for m in matches[: BEAM_WIDTH if number == 0 else 1]]

    def match(
        self, deviations: Deviations, failing: Sequence[Outcome], passing: Sequence[Outcome] | None = None
    ) -> Match:
        """Return the match of deviations with some failures and some right answers (by default, the small ones)."""
        passing = self.small if passing is None else passing
        explained = [o for o in failing if self.explains(deviations, o)]
        rest = [o for o in failing if not self.explains(deviations, o)]
        broken = sum(not self.explains(deviations, o) for o in passing)
        return Match(deviations, explained, broken, sum(self.replay.changes(deviations, o) for o in rest))

    def _extended(self, beam: Sequence[Deviations], failing: Sequence[Outcome]) -> list[Deviations]:
        """Return the most promising sets with one deviation more, judged by a sample of the failures."""
        gains: dict[frozenset[Deviation], tuple[int, Deviations]] = {}
        passing = _spread(self.small, PARTIAL_SAMPLE_SIZE)
        for deviations in beam:
            rest = [o for o in failing if not deviations or not self.explains(deviations, o)]
            defaults = [o for o in rest if o.vector.id.startswith("defaults-")]
            kept = _spread([o for o in failing if deviations and self.explains(deviations, o)], SAMPLE_SIZE)
            sample = [*_spread(rest, PARTIAL_SAMPLE_SIZE), *_spread(defaults, SAMPLE_SIZE)]
            for one in self.catalogue:
                chosen = (*deviations, one)
                if one in deviations or frozenset(chosen) in gains:
                    continue
                if gain := sum(self.explains(chosen, o) for o in sample):
                    lost = sum(not self.explains(chosen, o) for o in (*kept, *passing))
                    gains[frozenset(chosen)] = (gain - lost, chosen)
        best = sorted(gains.values(), key=lambda item: -item[0])
        return [chosen for _, chosen in best[: 2 * BEAM_WIDTH]]


def _ranked(matches: Sequence[Match]) -> list[Match]:
    """Return the matches that change fewer right answers than they explain failures, the best first."""
    return sorted((m for m in matches if m.broken < len(m.explained)), key=lambda m: -m.score)


def _spread(outcomes: Sequence[Outcome], count: int) -> list[Outcome]:
    """Return up to `count` outcomes at regular intervals."""
    return list(outcomes[:: max(1, len(outcomes) // count)][:count])


def _is_right(outcome: Outcome, level: Level) -> bool:
    """Tell whether an answer reaches a level."""
    return outcome.status in ("passed", "failed") and reaches(outcome.level, level)


def _work(outcome: Outcome) -> int:
    """Return the work of an outcome: its elements, and 4 more for every request."""
    requests = (exchange.request for exchange in outcome.exchanges)
    return sum(4 + len(request.param.values) for request in requests if isinstance(request, StepRequest))
