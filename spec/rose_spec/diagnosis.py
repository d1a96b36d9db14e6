"""What is wrong with a port: which known deviations give its answers, those that are right and those that are not.

A deviation explains a run if the oracle with that deviation, asked what the port was asked, gives every
answer of the port at the same level. One is looked for first, then a combination, then a pair. If none
explains the whole run, those are named that explain the most failures and contradict the fewest answers,
and the rest is left unexplained. Missing answers are told by what the port says of them.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rose_spec.catalogue import CATALOGUE, Deviation
from rose_spec.check import Outcome
from rose_spec.comparison import LEVELS, Level
from rose_spec.replies import Refused
from rose_spec.reproduction import Replay
from rose_spec.search import Search

__all__ = ["Diagnosis", "Explanation", "explain"]

# Explanations that stand beside one another.
BESIDE: Final = 3
# Reasons of missing answers that are told one by one.
REASONS: Final = 3
# The deviations that are nothing but missing answers.
UNANSWERED: Final = ("rank-0-unsupported", "empty-unsupported")


@dataclass(frozen=True)
class Explanation:
    """What some failures come from.

    Attributes
    ----------
    deviations : tuple of Deviation
        All of them together; none where the failures are of rounding only, or have no answer.
    count : int
        How many failures they explain.
    text : str
        The explanation for people.
    equivalents : tuple of tuple of Deviation
        Other deviations that explain the same just as well: the vectors do not tell them apart.
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


@dataclass(frozen=True)
class _Part:
    """Failures with what is said of them, which follows "41 " or "all 41 "."""

    outcomes: list[Outcome]
    text: str
    alternatives: tuple[tuple[Deviation, ...], ...] = ()


def explain(
    outcomes: Sequence[Outcome], catalogue: Sequence[Deviation] = CATALOGUE, asked: Level = "exact"
) -> Diagnosis:
    """Return what explains the failures of a run at the asked level, in as few deviations as possible."""
    failed = [outcome for outcome in outcomes if outcome.status in ("failed", "unanswered")]
    if not failed:
        return Diagnosis([], [])
    exchanged = [outcome for outcome in outcomes if outcome.status != "unsupported" and outcome.exchanges]
    answered = [outcome for outcome in exchanged if not _reason(outcome)]
    levels, replay = LEVELS[LEVELS.index(asked) :], Replay()
    runs = [exchanged] if len(answered) == len(exchanged) else [exchanged, answered]
    for level in levels:
        for run in runs:
            if part := _whole(Search(run, level, catalogue, replay), failed, asked):
                return _told([part, *_reasons(_without(failed, part.outcomes))], failed, len(outcomes))
    parts = list(_parts(Search(answered, asked, catalogue, replay)))
    missing = [outcome for outcome in failed if _reason(outcome)]
    kinds = list(_unanswered(Search(exchanged, asked, catalogue, replay), missing))
    rest = _without(missing, [outcome for part in kinds for outcome in part.outcomes])
    largest_first = sorted([*parts, *kinds], key=lambda part: -len(part.outcomes))
    return _told([*largest_first, *_reasons(rest)], failed, len(outcomes))


def _whole(search: Search, failed: Sequence[Outcome], asked: Level) -> _Part | None:
    """Return what explains all answers, None if nothing does."""
    among = {id(outcome) for outcome in (*search.failing, *search.passing)}
    explained = [outcome for outcome in failed if id(outcome) in among]
    if not search.failing:
        text = f"reach level {search.level}: they are rounded otherwise"
        return _Part(explained, text) if explained else None
    found = search.whole()
    at = "" if search.level == asked else f" at level {search.level}"
    return _Part(explained, f"are explained{at} by: {_named(found)}", tuple(found)) if found else None


def _parts(search: Search) -> Iterator[_Part]:
    """Yield what explains some of the answers, then those that are rounded otherwise."""
    rest = list(search.failing)
    for number in range(BESIDE):
        found = search.part(rest) if rest else []
        if not found or (number > 0 and found[0].score <= 0):
            break
        alternatives = tuple(one.deviations for one in found)
        yield _Part(found[0].explained, f"are explained by: {_named(alternatives)}", alternatives)
        rest = _without(rest, found[0].explained)
    if rounded := [outcome for outcome in rest if outcome.level is not None]:
        levels = " or ".join(LEVELS[LEVELS.index(search.level) + 1 :])
        yield _Part(rounded, f"reach level {levels}")


def _unanswered(search: Search, missing: Sequence[Outcome]) -> Iterator[_Part]:
    """Yield the deviations that leave unanswered what has no answer, and nothing that has one."""
    given = _without([*search.failing, *search.passing], missing)
    silent = [deviation for deviation in search.catalogue if deviation.name in UNANSWERED]
    for deviation in silent:
        found = [outcome for outcome in missing if search.replay.leaves_unanswered((deviation,), outcome)]
        # Where the port says the same of other vectors, it is not because of these.
        others = {_reason(outcome) for outcome in _without(missing, found)}
        same = any(_reason(outcome) in others for outcome in found)
        if found and not same and not any(search.replay.leaves_unanswered((deviation,), o) for o in given):
            yield _Part(found, f"are explained by: {deviation}", ((deviation,),))


def _reasons(missing: Sequence[Outcome]) -> Iterator[_Part]:
    """Yield the failures without an answer by what the port says of them, the most frequent first."""
    counts = Counter(_reason(outcome) for outcome in missing).most_common()
    told = [text for text, _ in counts if text][: REASONS if len(counts) > REASONS + 1 else None]
    for text in told:
        yield _Part([outcome for outcome in missing if _reason(outcome) == text], text)
    if others := [outcome for outcome in missing if _reason(outcome) and _reason(outcome) not in told]:
        yield _Part(others, f"get no answer, or are refused, for {len(counts) - len(told)} other reasons")


def _reason(outcome: Outcome) -> str:
    """Return why there is no answer to what must be answered, empty where there is one."""
    lines = outcome.detail.splitlines() or ["no reason given"]
    if outcome.status == "unanswered":
        return f"get no answer: {lines[0].removeprefix('not answered: ')}"
    refused = outcome.status == "failed" and isinstance(outcome.reply, Refused)
    return f"are refused: {lines[0].removeprefix('refused what it must answer: ')}" if refused else ""


def _told(parts: Sequence[_Part], failed: Sequence[Outcome], asked: int) -> Diagnosis:
    """Return the diagnosis, which counts before it names."""
    rest = _without(failed, [outcome for part in parts for outcome in part.outcomes])
    texts = [f"{len(part.outcomes)} {part.text}" for part in parts]
    if len(parts) == 1 and not rest:
        texts = [f"all {texts[0]}"]
    elif parts and not rest:
        texts[0] = f"all {len(failed)} have a reason: {texts[0]}"
    if texts:
        texts[0] = f"fails {len(failed)} of {asked}; {texts[0]}"
    if texts and rest:
        texts[-1] += f"; {len(rest)} are explained by no known deviation"
    explanations = [
        Explanation(next(iter(part.alternatives), ()), len(part.outcomes), text, part.alternatives[1:])
        for part, text in zip(parts, texts, strict=True)
    ]
    return Diagnosis(explanations, rest)


def _without(outcomes: Sequence[Outcome], others: Sequence[Outcome]) -> list[Outcome]:
    """Return the outcomes that are not among others."""
    found = {id(outcome) for outcome in others}
    return [outcome for outcome in outcomes if id(outcome) not in found]


def _named(alternatives: Sequence[tuple[Deviation, ...]]) -> str:
    """Return the sentences of deviations that hold together, with the alternatives."""
    return "; or just as well by: ".join("; and ".join(map(str, deviations)) for deviations in alternatives)
