"""The diagnosis of a port: the known deviations that reproduce its answers, right and wrong ones.

A deviation explains a run if the oracle with this deviation gives every answer of the port at the same level. The
search tries single deviations first, then combinations, then pairs. If none explains the whole run, the diagnosis
names the deviations that explain the most failures and contradict the fewest answers. Missing answers are grouped by
the reason that the port gives.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from rose_spec.catalogue import CATALOGUE, Deviation
from rose_spec.comparison import LEVELS, Level
from rose_spec.machine import machine_arithmetic
from rose_spec.outcome import Outcome
from rose_spec.replies import Refused, Words
from rose_spec.reproduction import OutOfTime, Replay
from rose_spec.search import Search

__all__ = ["Diagnosis", "explain"]

# The seconds that a search may take, and the part of them for explanations of all failures.
SECONDS: Final = 12.0
FULL_PART: Final = 0.4
# The most partial explanations in a diagnosis.
MAX_EXPLANATIONS: Final = 3
# The most reasons of missing answers that are listed one by one.
MAX_REASONS: Final = 3
# The deviations whose only effect is a missing answer.
UNANSWERED: Final = ("rank-0-unsupported", "empty-unsupported")


@dataclass(frozen=True)
class Explanation:
    """The explanation of some failures.

    Attributes
    ----------
    deviations : tuple of Deviation
        The deviations, which hold together. Empty if only the rounding differs, or if there are no answers.
    count : int
        The number of failures that they explain.
    text : str
        The explanation in words.
    equivalents : tuple of tuple of Deviation
        Other sets of deviations that the vectors cannot tell apart from these.
    """

    deviations: tuple[Deviation, ...]
    count: int
    text: str
    equivalents: tuple[tuple[Deviation, ...], ...] = ()


@dataclass(frozen=True)
class Diagnosis:
    """The explanations of the failures of a run, and the failures without an explanation."""

    explanations: list[Explanation]
    unexplained: list[Outcome]


@dataclass(frozen=True)
class _Part:
    """Failures with a common explanation; `text` follows their number, as in "41 are explained by ..."."""

    outcomes: list[Outcome]
    text: str
    alternatives: tuple[tuple[Deviation, ...], ...] = ()


def explain(
    outcomes: Sequence[Outcome],
    catalogue: Sequence[Deviation] = CATALOGUE,
    required: Level = "exact",
    seconds: float = SECONDS,
) -> Diagnosis:
    """Return the diagnosis of a run at the required level, with as few deviations as possible.

    After the given seconds, the search ends with the explanations that it has found.
    """
    failed = [outcome for outcome in outcomes if outcome.status in ("failed", "unanswered")]
    if not failed:
        return Diagnosis([], [])
    with machine_arithmetic():
        return _explained(outcomes, failed, catalogue, required, seconds)


def _explained(
    outcomes: Sequence[Outcome],
    failed: Sequence[Outcome],
    catalogue: Sequence[Deviation],
    required: Level,
    seconds: float,
) -> Diagnosis:
    exchanged = [outcome for outcome in outcomes if outcome.status != "unsupported" and outcome.exchanges]
    answered = [outcome for outcome in exchanged if not _reason(outcome)]
    replay = Replay(has_own_noise=not any(isinstance(outcome.reply, Words) for outcome in outcomes))
    started = time.monotonic()
    with suppress(OutOfTime):
        replay.deadline = started + FULL_PART * seconds
        if part := _full(exchanged, answered, failed, catalogue, required, replay):
            return _diagnosis([part, *_reasons(_without(failed, part.outcomes))], failed, len(outcomes))
    replay.deadline = started + seconds
    parts = list(_partial(Search(answered, required, catalogue, replay)))
    missing, unanswered = [outcome for outcome in failed if _reason(outcome)], list[_Part]()
    with suppress(OutOfTime):
        unanswered += _unanswered(Search(exchanged, required, catalogue, replay), missing)
    rest = _without(missing, [outcome for part in unanswered for outcome in part.outcomes])
    largest_first = sorted([*parts, *unanswered], key=lambda part: -len(part.outcomes))
    is_over = time.monotonic() >= replay.deadline
    end = f"the search for known deviations ended after {seconds:g} s" if is_over else ""
    return _diagnosis([*largest_first, *_reasons(rest)], failed, len(outcomes), end)


def _full(
    exchanged: Sequence[Outcome],
    answered: Sequence[Outcome],
    failed: Sequence[Outcome],
    catalogue: Sequence[Deviation],
    required: Level,
    replay: Replay,
) -> _Part | None:
    """Return the explanation of all replies, or else of all answers, at the highest level that has one."""
    runs = [exchanged] if len(answered) == len(exchanged) else [exchanged, answered]
    for level in LEVELS[LEVELS.index(required) :]:
        for run in runs:
            if part := _full_at(Search(run, level, catalogue, replay), failed, required):
                return part
    return None


def _full_at(search: Search, failed: Sequence[Outcome], required: Level) -> _Part | None:
    """Return the explanation of all answers at the level of the search, or None."""
    searched = {id(outcome) for outcome in (*search.failing, *search.passing)}
    explained = [outcome for outcome in failed if id(outcome) in searched]
    if not search.failing:
        text = f"reach level {search.level}: only their rounding differs"
        return _Part(explained, text) if explained else None
    found = search.full_explanations()
    suffix = "" if search.level == required else f" at level {search.level}"
    return _Part(explained, f"are explained{suffix} by: {_sentences(found)}", tuple(found)) if found else None


def _partial(search: Search) -> Iterator[_Part]:
    """Yield the explanations of some of the answers, then the answers that are only rounded otherwise."""
    rest = list(search.failing)
    for number in range(MAX_EXPLANATIONS):
        found = search.partial_explanations(rest) if rest else []
        if not found or (number > 0 and found[0].score <= 0):
            break
        alternatives = tuple(match.deviations for match in found)
        yield _Part(found[0].explained, f"are explained by: {_sentences(alternatives)}", alternatives)
        rest = _without(rest, found[0].explained)
    if rounded := [outcome for outcome in rest if outcome.level is not None]:
        levels = " or ".join(LEVELS[LEVELS.index(search.level) + 1 :])
        yield _Part(rounded, f"reach level {levels}")


def _unanswered(search: Search, missing: Sequence[Outcome]) -> Iterator[_Part]:
    """Yield the deviations whose missing answers the port lacks too, and no others."""
    answered = _without([*search.failing, *search.passing], missing)
    for deviation in (one for one in search.catalogue if one.name in UNANSWERED):
        found = [outcome for outcome in missing if search.replay.leaves_unanswered((deviation,), outcome)]
        # The port may give the same reason for other vectors, which this deviation does not concern.
        other_reasons = {_reason(outcome) for outcome in _without(missing, found)}
        shared = any(_reason(outcome) in other_reasons for outcome in found)
        if found and not shared and not any(search.replay.leaves_unanswered((deviation,), o) for o in answered):
            yield _Part(found, f"are explained by: {deviation}", ((deviation,),))


def _reasons(missing: Sequence[Outcome]) -> Iterator[_Part]:
    """Yield the failures without an answer, grouped by the port's reason, the most frequent first."""
    counts = Counter(_reason(outcome) for outcome in missing).most_common()
    listed = [text for text, _ in counts if text][: MAX_REASONS if len(counts) > MAX_REASONS + 1 else None]
    for text in listed:
        yield _Part([outcome for outcome in missing if _reason(outcome) == text], text)
    if others := [outcome for outcome in missing if _reason(outcome) and _reason(outcome) not in listed]:
        yield _Part(others, f"have no answer, or are refused, for {len(counts) - len(listed)} other reasons")


def _reason(outcome: Outcome) -> str:
    """Return the reason of a missing answer, or an empty string if there is an answer."""
    lines = outcome.detail.splitlines() or ["no reason given"]
    if outcome.status == "unanswered":
        return f"have no answer: {lines[0].removeprefix('not answered: ')}"
    refused = outcome.status == "failed" and isinstance(outcome.reply, Refused)
    return f"are refused: {lines[0].removeprefix('refused a step that it must answer: ')}" if refused else ""


def _diagnosis(parts: Sequence[_Part], failed: Sequence[Outcome], total: int, end: str = "") -> Diagnosis:
    """Return the diagnosis; each explanation begins with the number of its failures, and `end` is the last one."""
    rest = _without(failed, [outcome for part in parts for outcome in part.outcomes])
    texts = [f"{len(part.outcomes)} {part.text}" for part in parts]
    if len(parts) == 1 and not rest:
        texts = [f"all {texts[0]}"]
    elif parts and not rest:
        texts[0] = f"all {len(failed)} have a reason: {texts[0]}"
    if texts:
        texts[0] = f"fails {len(failed)} of {total}; {texts[0]}"
    if texts and rest:
        texts[-1] += f"; {len(rest)} are explained by no known deviation"
    explanations = [
        Explanation(next(iter(part.alternatives), ()), len(part.outcomes), text, part.alternatives[1:])
        for part, text in zip(parts, texts, strict=True)
    ]
    if end:
        prefix = "" if texts else f"fails {len(failed)} of {total}; "
        explanations.append(Explanation((), 0, f"{prefix}{end}"))
    return Diagnosis(explanations, rest)


def _without(outcomes: Sequence[Outcome], others: Sequence[Outcome]) -> list[Outcome]:
    """Return the outcomes that are not among others."""
    excluded = {id(outcome) for outcome in others}
    return [outcome for outcome in outcomes if id(outcome) not in excluded]


def _sentences(alternatives: Sequence[tuple[Deviation, ...]]) -> str:
    """Return the sentences of deviations, those that hold together joined by "and", alternatives by "or"."""
    return "; or equally well by: ".join("; and ".join(map(str, deviations)) for deviations in alternatives)
