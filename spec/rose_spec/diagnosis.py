"""What is wrong with a port: which known deviations give its answers, those that are right and those that are not.

A deviation explains a run if the oracle with that deviation, asked what the port was asked, gives every
answer of the port at the same level. One is looked for first, then a combination, then a pair. If none
explains the whole run, those that explain the most are named, and the rest is left unexplained.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from rose_spec.catalogue import CATALOGUE, Deviation, Variant
from rose_spec.check import Outcome
from rose_spec.comparison import LEVELS, Level, reaches
from rose_spec.replies import StepRequest
from rose_spec.reproduction import is_changed_by, is_reproduced_by

__all__ = ["Diagnosis", "Explanation", "explain"]

# So many failures are looked at, of all sizes, before a deviation or a pair is tried on all of them.
SAMPLE: Final = 12


@dataclass(frozen=True)
class Explanation:
    """What some failures come from.

    Attributes
    ----------
    deviations : tuple of Deviation
        All of them together; none where the failures are of rounding only.
    count : int
        How many failures they explain.
    text : str
        The explanation for people.
    equivalents : tuple of tuple of Deviation
        Other deviations that explain the run just as well: the vectors do not tell them apart.
    """

    deviations: tuple[Deviation, ...]
    count: int
    text: str
    equivalents: tuple[tuple[Deviation, ...], ...] = ()


@dataclass(frozen=True)
class Diagnosis:
    """What explains the failures of a run, and the failures that nothing explains."""

    explanations: list[Explanation]
    unexplained: list[Outcome]


def explain(outcomes: Sequence[Outcome], catalogue: Sequence[Deviation] = CATALOGUE) -> Diagnosis:
    """Return what explains the failures of a run, in as few deviations as possible."""
    answered = [outcome for outcome in outcomes if outcome.status != "unsupported" and outcome.exchanges]
    failed = [outcome for outcome in outcomes if outcome.status in ("failed", "unanswered")]
    for level in LEVELS:
        run = _Run(answered, level, catalogue)
        if not run.failing:
            return _of_rounding(failed, len(outcomes), level)
        if found := run.explained():
            return _explained(failed, run, found, len(outcomes))
    return _partly(failed, _Run(answered, "exact", catalogue), len(outcomes))


class _Run:
    """The answers of a run, at one level."""

    def __init__(self, answered: Sequence[Outcome], level: Level, catalogue: Sequence[Deviation]) -> None:
        self.level, self.catalogue = level, catalogue
        self.failing = sorted((o for o in answered if not _right(o, level)), key=_size)
        self.passing = sorted((o for o in answered if _right(o, level)), key=_size)
        self.sample = self.failing[:: max(1, len(self.failing) // SAMPLE)][:SAMPLE]

    def explained(self) -> list[tuple[Deviation, ...]]:
        """Return the deviations that explain the run: the alternatives of least number, none if there are none."""
        singles: list[tuple[Deviation, ...]] = [(one,) for one in self.catalogue if self.holds((one,))]
        if singles:
            return singles
        named = self.named()
        for count in range(2, len(named) + 1):
            if found := [some for some in combinations(named, count) if self.holds(some)]:
                return found
        return next(([pair] for pair in self.pairs() if self.holds(pair)), [])

    def holds(self, deviations: tuple[Deviation, ...]) -> bool:
        """Tell whether deviations explain every answer."""
        variant = Variant(deviations)
        parts = (self.sample, self.failing, self.passing)
        return all(is_reproduced_by(variant, outcome, self.level) for part in parts for outcome in part)

    def named(self) -> list[Deviation]:
        """Return up to four deviations that explain the most of the sample, one after the other."""
        rest, named = list(self.sample), list[Deviation]()
        explained = {
            one: [o for o in rest if is_reproduced_by(Variant([one]), o, self.level)] for one in self.catalogue
        }
        while rest and len(named) < 4:
            best = max(explained, key=lambda one: sum(1 for o in explained[one] if o in rest))
            if not (found := [o for o in explained[best] if o in rest]):
                break
            named.append(best)
            rest = [o for o in rest if o not in found]
        return named

    def pairs(self) -> Iterator[tuple[Deviation, Deviation]]:
        """Yield the pairs that may explain the sample: where one changes nothing, the other must be right alone."""
        sample = self.sample[:: max(1, len(self.sample) // 8)]
        table: dict[Deviation, list[tuple[bool, bool]]] = {}
        for one in self.catalogue:
            variant = Variant([one])
            table[one] = [(is_changed_by(variant, o), is_reproduced_by(variant, o, self.level)) for o in sample]
        for a, b in combinations(self.catalogue, 2):
            rows = zip(table[a], table[b], strict=True)
            if all(
                right_a or right_b or (changed_a and changed_b) for (changed_a, right_a), (changed_b, right_b) in rows
            ):
                yield a, b


def _right(outcome: Outcome, level: Level) -> bool:
    """Tell whether an answer reaches a level."""
    return outcome.status in ("passed", "failed") and reaches(outcome.level, level)


def _size(outcome: Outcome) -> int:
    """Return how much work a vector is: its elements, and as much again for every request."""
    requests = (exchange.request for exchange in outcome.exchanges)
    return sum(4 + len(request.param.values) for request in requests if isinstance(request, StepRequest))


def _of_rounding(failed: Sequence[Outcome], asked: int, level: Level) -> Diagnosis:
    """Return the diagnosis where every answer reaches a level."""
    explained = [outcome for outcome in failed if outcome.exchanges]
    rest = [outcome for outcome in failed if not outcome.exchanges]
    text = f"fails {len(failed)} of {asked}; {_all(explained, failed)} reach level {level}: they are rounded otherwise"
    return Diagnosis([Explanation((), len(explained), text)] if explained else [], rest)


def _explained(failed: Sequence[Outcome], run: _Run, found: Sequence[tuple[Deviation, ...]], asked: int) -> Diagnosis:
    """Return the diagnosis where deviations explain the run."""
    explained = [outcome for outcome in failed if outcome.exchanges]
    rest = [outcome for outcome in failed if not outcome.exchanges]
    at = "" if run.level == "exact" else f" at level {run.level}"
    text = f"fails {len(failed)} of {asked}; {_all(explained, failed)} are explained{at} by: {_named(found[0])}"
    text += "".join(f"; or just as well by: {_named(other)}" for other in found[1:])
    return Diagnosis([Explanation(found[0], len(explained), text, tuple(found[1:]))], rest)


def _partly(failed: Sequence[Outcome], run: _Run, asked: int) -> Diagnosis:
    """Return the diagnosis where nothing explains the whole run."""
    explanations, rest = list[Explanation](), list(failed)
    for one in run.named():
        variant = Variant([one])
        found = [o for o in rest if o.exchanges and is_reproduced_by(variant, o, run.level)]
        if found:
            text = f"fails {len(failed)} of {asked}; {len(found)} are explained by: {one}"
            explanations.append(Explanation((one,), len(found), text))
            rest = [o for o in rest if o not in found]
    rounded = [o for o in rest if o.status == "failed" and o.level is not None]
    if rounded:
        text = f"fails {len(failed)} of {asked}; {len(rounded)} reach level rounded or formula"
        explanations.append(Explanation((), len(rounded), text))
    return Diagnosis(explanations, [o for o in rest if o not in rounded])


def _all(explained: Sequence[Outcome], failed: Sequence[Outcome]) -> str:
    """Return how many are explained, in words."""
    return f"all {len(failed)}" if len(explained) == len(failed) else str(len(explained))


def _named(deviations: Sequence[Deviation]) -> str:
    """Return the sentences of deviations that hold together."""
    return "; and ".join(map(str, deviations))
