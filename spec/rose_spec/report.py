"""What a run found, as data: counts, levels by clause, and the failing vector to look at first."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final

from rose_spec.arrays import hex_words
from rose_spec.check import Outcome, expected_step
from rose_spec.comparison import LEVELS, Level, same
from rose_spec.oracle import Rule, Step, Tensor
from rose_spec.replies import Answer, Exchange, StepRequest

__all__ = ["CONFORMS", "DOES_NOT", "HARNESS_FAILED", "ClauseResult", "Difference", "Report", "difference", "size"]

CONFORMS: Final = 0
DOES_NOT: Final = 1
HARNESS_FAILED: Final = 2


@dataclass
class ClauseResult:
    """What came of the vectors that cite a clause."""

    clause: str
    counts: Counter[str] = field(default_factory=Counter)
    level: Level | None = "exact"
    ulps: float = 0.0

    @property
    def vectors(self) -> int:
        """Return how many vectors cite the clause."""
        return self.counts.total()

    @property
    def tested(self) -> int:
        """Return how many of them the port supports."""
        return self.vectors - self.counts["unsupported"]

    def add(self, outcome: Outcome) -> None:
        """Count an outcome."""
        self.counts[outcome.status] += 1
        if outcome.status != "unsupported":
            self.level = max(self.level, outcome.level, key=(*LEVELS, None).index)
            self.ulps = max(self.ulps, outcome.ulps)


@dataclass(frozen=True)
class Difference:
    """The first places where an answer differs from the oracle's.

    Attributes
    ----------
    request : StepRequest
        What was asked.
    elements : list of tuple
        Index, expected word, expected value, word and value of the answer.
    count : int
        How many elements differ.
    intermediate : str
        The first intermediate value that differs, in words; empty if none does, or the port gave none.
    """

    request: StepRequest
    elements: list[tuple[int, str, float, str, float]]
    count: int
    intermediate: str


@dataclass
class Report:
    """All that is known after a run.

    Attributes
    ----------
    port, command, revision : str
        What was checked, how, and against which revision of the rule.
    asked : str
        The level asked for.
    outcomes : list of Outcome
        One for each vector.
    seconds : float
        How long the run took.
    error : str
        What the harness or the protocol failed with, empty if it did not.
    diagnosis : object or None
        What `rose_spec.diagnosis.explain` found, None where nothing failed.
    """

    port: str
    command: str
    revision: str
    asked: Level
    outcomes: list[Outcome]
    seconds: float = 0.0
    error: str = ""
    diagnosis: Any = None
    rule: type[Rule] = Rule

    @property
    def counts(self) -> Counter[str]:
        """Return how many vectors there are of each status."""
        return Counter(outcome.status for outcome in self.outcomes)

    @property
    def level(self) -> Level | None:
        """Return the level that all supported vectors reach, None if one does not or there are none."""
        return self.total.level if self.total.tested else None

    @property
    def total(self) -> ClauseResult:
        """Return the result over all vectors."""
        total = ClauseResult("all")
        for outcome in self.outcomes:
            total.add(outcome)
        return total

    @property
    def failures(self) -> list[Outcome]:
        """Return the outcomes that stand against conformance."""
        return [outcome for outcome in self.outcomes if outcome.status in ("failed", "unanswered")]

    @property
    def status(self) -> int:
        """Return the exit status."""
        if self.error:
            return HARNESS_FAILED
        return DOES_NOT if self.failures or not self.counts["passed"] else CONFORMS

    def by_clause(self) -> list[ClauseResult]:
        """Return the results of all clauses, in the order of the specification."""
        results: dict[str, ClauseResult] = {}
        for outcome in self.outcomes:
            for clause in outcome.vector.clauses:
                results.setdefault(clause, ClauseResult(clause)).add(outcome)
        return [results[clause] for clause in sorted(results, key=_clause_number)]

    def by_section(self) -> list[ClauseResult]:
        """Return the results to show: one for a section where nothing is the matter, else one for each clause."""
        rows: list[ClauseResult] = []
        clauses = self.by_clause()
        for section in dict.fromkeys(result.clause.partition(".")[0] for result in clauses):
            results = [result for result in clauses if result.clause.partition(".")[0] == section]
            if len(results) == 1 or any(r.level != "exact" or r.tested < r.vectors for r in results):
                rows += results
                continue
            merged = ClauseResult(f"{section} ({len(results)} clauses)")
            for outcome in self.outcomes:
                if any(clause.partition(".")[0] == section for clause in outcome.vector.clauses):
                    merged.add(outcome)
            rows.append(merged)
        return rows

    def smallest_failure(self) -> Outcome | None:
        """Return the smallest failing vector, of those that nothing explains if there are any."""
        unexplained: Sequence[Outcome] = getattr(self.diagnosis, "unexplained", None) or self.failures
        # A wrong answer shows more than a missing one.
        return min(
            unexplained, key=lambda o: (o.vector.kind == "refusal", o.status == "unanswered", size(o)), default=None
        )

    def reasons_unsupported(self) -> list[tuple[str, int]]:
        """Return what the port lacks, with how many vectors ask for it."""
        return Counter(o.detail for o in self.outcomes if o.status == "unsupported").most_common()

    def verdict(self) -> str:
        """Return what the run comes to, in a sentence."""
        if self.error:
            return f"The run failed: {self.error.splitlines()[0]}"
        if self.status == CONFORMS:
            missing = self.counts["unsupported"]
            rest = (
                f" in what it supports ({missing} of {len(self.outcomes)} vectors are unsupported)" if missing else ""
            )
            return f"{self.port} conforms to Rose {self.revision} at level {self.level}{rest}."
        if not self.failures:
            return f"{self.port} supports none of the {len(self.outcomes)} vectors."
        return f"{self.port} does not conform: it fails {len(self.failures)} of {len(self.outcomes)} vectors."

    def to_json(self) -> str:
        """Return the report for programs."""
        explanations = [{"text": e.text, "count": e.count} for e in getattr(self.diagnosis, "explanations", ())]
        content = {
            "format": 1,
            "port": self.port,
            "kit": version("rose-core"),
            "revision": self.revision,
            "command": self.command,
            "asked": self.asked,
            "level": self.level,
            "conforms": self.status == CONFORMS,
            "exit_status": self.status,
            "error": self.error,
            "seconds": round(self.seconds, 3),
            "counts": {status: self.counts[status] for status in ("passed", "failed", "unsupported", "unanswered")},
            "clauses": {r.clause: _numbers(r) for r in self.by_clause()},
            "diagnosis": explanations,
            "vectors": [_outcome_to_json(outcome) for outcome in self.outcomes],
        }
        return json.dumps(content, indent=1) + "\n"


def size(outcome: Outcome) -> int:
    """Return how much there is to look at in a failing vector."""
    steps = sum(len(e.request.param.values) for e in outcome.exchanges if isinstance(e.request, StepRequest))
    return steps or len(str(outcome.vector.input))


def difference(outcome: Outcome, rule: type[Rule] = Rule) -> Difference | None:
    """Return where the answers of an outcome first differ from the oracle's, None if there is nothing to compare."""
    for exchange in outcome.exchanges:
        if isinstance(exchange.request, StepRequest) and isinstance(exchange.reply, Answer):
            found = _difference(exchange, exchange.request, exchange.reply, rule)
            if found is not None:
                return found
    return None


def _difference(exchange: Exchange, request: StepRequest, answer: Answer, rule: type[Rule]) -> Difference | None:
    try:
        step = expected_step(request, rule)
    except (TypeError, ValueError, KeyError):
        return None  # what must be refused has no expected answer
    got, expected = answer.param, step.param
    if (got.dtype, got.shape) != (expected.dtype, expected.shape):
        return Difference(request, [], 0, "")
    pairs = zip(got.values, expected.values, strict=True)
    any_nan = request.noise is None
    places = [i for i, (a, b) in enumerate(pairs) if not same(a, b, any_nan=any_nan)]
    if not places:
        return None
    shown = [(i, *_word(expected, i), *_word(got, i)) for i in places[:4]]
    return Difference(exchange.request, shown, len(places), _first_intermediate(answer, step))  # type: ignore[arg-type]


def _first_intermediate(answer: Answer, step: Step) -> str:
    """Return in words which intermediate value of an answer is the first to differ."""
    for name in ("mean", "range", "trust", "denominator"):
        expected = getattr(step, name)
        if name not in answer.intermediates or expected is None:
            continue
        got, want = answer.intermediates[name], [expected] if name == "trust" else expected
        if len(got) != len(want):
            return f"{name}: {len(got)} values, not {len(want)}"
        for place, (a, b) in enumerate(zip(got, want, strict=True)):
            if not same(a, b):
                where = "" if name == "trust" else f" of slice {place}"
                return f"{name}{where}: expected {b.hex()} ({b!r}), got {a.hex()} ({a!r})"
    return ""


def _word(tensor: Tensor, place: int) -> tuple[str, float]:
    value = tensor.values[place]
    return hex_words(Tensor(tensor.dtype, (), (value,)))[0], value


def _clause_number(clause: str) -> tuple[int, ...]:
    # An appendix, ROSE-A.1, comes last.
    return tuple(int(part) if part.isdigit() else 1000 for part in clause.removeprefix("ROSE-").split("."))


def _ulps(value: float) -> float | None:
    """Return a number of ulps as JSON can hold it: null where it is infinite."""
    return value if math.isfinite(value) else None


def _numbers(result: ClauseResult) -> Mapping[str, Any]:
    return {"level": result.level if result.tested else None, "vectors": result.vectors, **dict(result.counts)}


def _outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "id": outcome.vector.id,
        "status": outcome.status,
        "level": outcome.level,
        "ulps": _ulps(outcome.ulps),
        "detail": outcome.detail,
    }
