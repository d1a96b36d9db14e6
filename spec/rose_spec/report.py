"""What a run found, as data: counts, levels by clause, and the failing vector to look at first."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final

from rose_spec.check import Outcome
from rose_spec.comparison import LEVELS, Level
from rose_spec.difference import difference
from rose_spec.oracle import Rule
from rose_spec.replies import StepRequest
from rose_spec.vectors import Vector

__all__ = ["CONFORMS", "DOES_NOT", "HARNESS_FAILED", "ClauseResult", "Report", "counted", "size"]

CONFORMS: Final = 0
DOES_NOT: Final = 1
HARNESS_FAILED: Final = 2

# Decay, statistics, gate and update: no port does without them, at the default compute dtype.
FORMULAS: Final = frozenset({"ROSE-3", "ROSE-4", "ROSE-5", "ROSE-6"})
PLAIN: Final = frozenset({"lr", "weight_decay"})


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
    rule : type
        The oracle of the revision.
    selection : str
        The arguments that narrowed the run, empty if none did.
    available : int
        How many vectors there would have been without them.
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
    selection: str = ""
    available: int = 0

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
        return DOES_NOT if self.failures or self.supports_too_little else CONFORMS

    @property
    def supports_too_little(self) -> bool:
        """Tell whether so much is unsupported that nothing can be said of conformance; see CONFORMANCE.md."""
        if not self.selection and any(o.status == "unsupported" for o in self.outcomes if is_required(o.vector)):
            return True
        # Who refuses everything refuses what must be refused, too.
        telling = [o for o in self.outcomes if o.vector.kind != "refusal"] or self.outcomes
        return all(outcome.status == "unsupported" for outcome in telling)

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
        reasons: Counter[str] = Counter()
        for outcome in self.outcomes:
            if outcome.status == "unsupported":
                options = getattr(outcome.reply, "options", ())
                reasons.update([f"no option {option}" for option in options] or [outcome.detail])
        return reasons.most_common()

    def verdict(self) -> str:
        """Return what the run comes to, in a sentence."""
        if self.error:
            return f"The run failed: {self.error.splitlines()[0]}"
        missing, total = self.counts["unsupported"], counted(len(self.outcomes), "vector")
        chosen = f"{len(self.outcomes)} of the {self.available} vectors, those selected by {self.selection}"
        if self.failures:
            run = f", run on {chosen}" if self.selection else f" of {total}"
            return f"{self.port} does not conform: it fails {len(self.failures)}{run}."
        unsupported = f"({missing} of {total} {'is' if missing == 1 else 'are'} unsupported)"
        where = f" in {chosen}" if self.selection else ""
        if self.supports_too_little:
            return f"{self.port} supports too little to judge{where} {unsupported}."
        rest = f"{',' * bool(where)} in what it supports {unsupported}" if missing else ""
        return f"{self.port} conforms to Rose {self.revision} at level {self.level}{where}{rest}."

    def to_json(self) -> str:
        """Return the report for programs."""
        explanations = [{"text": e.text, "count": e.count} for e in getattr(self.diagnosis, "explanations", ())]
        content = {
            "format": 1,
            "port": self.port,
            "kit": version("rose-core"),
            "revision": self.revision,
            "command": self.command,
            "selected_by": self.selection or None,
            "asked": self.asked,
            "level": self.level,
            "conforms": self.status == CONFORMS,
            "exit_status": self.status,
            "error": self.error,
            "seconds": round(self.seconds, 3),
            "counts": {status: self.counts[status] for status in ("passed", "failed", "unsupported", "unanswered")},
            "clauses": {r.clause: _numbers(r) for r in self.by_clause()},
            "diagnosis": explanations,
            "vectors": [_outcome_to_json(outcome, self.rule) for outcome in self.outcomes],
        }
        return json.dumps(content, indent=1) + "\n"


def counted(count: int, noun: str) -> str:
    """Return a number of things, in the singular if it is one."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def is_required(vector: Vector) -> bool:
    """Tell whether no port can be judged that does not support a vector: a plain step by the formulas."""
    return (
        vector.kind == "step"
        and "noise" not in vector.input
        and set(vector.input["options"]) <= PLAIN
        and any(clause.split(".")[0] in FORMULAS for clause in vector.clauses)
    )


def size(outcome: Outcome) -> int:
    """Return how much there is to look at in a failing vector."""
    steps = sum(len(e.request.param.values) for e in outcome.exchanges if isinstance(e.request, StepRequest))
    return steps or len(str(outcome.vector.input))


def _clause_number(clause: str) -> tuple[int, ...]:
    # An appendix, ROSE-A.1, comes last.
    return tuple(int(part) if part.isdigit() else 1000 for part in clause.removeprefix("ROSE-").split("."))


def _ulps(value: float) -> float | None:
    """Return a number of ulps as JSON can hold it: null where it is infinite."""
    return value if math.isfinite(value) else None


def _numbers(result: ClauseResult) -> Mapping[str, Any]:
    return {"level": result.level if result.tested else None, "vectors": result.vectors, **dict(result.counts)}


def _outcome_to_json(outcome: Outcome, rule: type[Rule]) -> dict[str, Any]:
    found = difference(outcome, rule) if outcome.status == "failed" else None
    return {
        "id": outcome.vector.id,
        "status": outcome.status,
        "level": outcome.level,
        "ulps": _ulps(outcome.ulps),
        "detail": outcome.detail,
        **({} if found is None else {"difference": found.to_json()}),
    }
