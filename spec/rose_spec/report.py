"""The result of a run as data: counts, the level of each clause, the verdict, and the report in JSON."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final

from rose_spec.comparison import LEVELS, Level
from rose_spec.difference import difference
from rose_spec.oracle import Rule
from rose_spec.outcome import Outcome
from rose_spec.replies import StepRequest
from rose_spec.vectors import Vector

__all__ = ["CONFORMS", "DOES_NOT_CONFORM", "HARNESS_FAILED", "ClauseResult", "Report", "counted", "is_required"]

CONFORMS: Final = 0
DOES_NOT_CONFORM: Final = 1
HARNESS_FAILED: Final = 2

# Decay, statistics, gate and step: every port needs them, at the default compute dtype.
FORMULAS: Final = frozenset({"ROSE-3", "ROSE-4", "ROSE-5", "ROSE-6"})
PLAIN_OPTIONS: Final = frozenset({"lr", "weight_decay"})


@dataclass
class ClauseResult:
    """The results of the vectors that cite a clause."""

    clause: str
    counts: Counter[str] = field(default_factory=Counter)
    level: Level | None = "exact"
    ulps: float = 0.0

    @property
    def vectors(self) -> int:
        """Return the number of vectors that cite the clause."""
        return self.counts.total()

    @property
    def tested(self) -> int:
        """Return the number of these vectors that the port supports."""
        return self.vectors - self.counts["unsupported"]

    def add(self, outcome: Outcome) -> None:
        """Count an outcome."""
        self.counts[outcome.status] += 1
        if outcome.status != "unsupported":
            self.level = max(self.level, outcome.level, key=(*LEVELS, None).index)
            self.ulps = max(self.ulps, outcome.ulps)


@dataclass
class Report:
    """The result of a run.

    Attributes
    ----------
    port, command, revision : str
        The name of the port, the command line, and the revision of the rule.
    required : str
        The level that the port must reach.
    outcomes : list of Outcome
        One outcome for each vector.
    seconds : float
        The duration of the run.
    error : str
        The error of the harness or the protocol, empty if there is none.
    diagnosis : object or None
        The result of `rose_spec.diagnosis.explain`, or None if nothing failed.
    rule : type
        The oracle of the revision.
    selection : str
        The arguments that selected the vectors, empty if there are none.
    available : int
        The number of vectors without a selection.
    """

    port: str
    command: str
    revision: str
    required: Level
    outcomes: list[Outcome]
    seconds: float = 0.0
    error: str = ""
    diagnosis: Any = None
    rule: type[Rule] = Rule
    selection: str = ""
    available: int = 0

    @property
    def counts(self) -> Counter[str]:
        """Return the number of vectors of each status."""
        return Counter(outcome.status for outcome in self.outcomes)

    @property
    def level(self) -> Level | None:
        """Return the level that all supported vectors reach, or None if there is no such level."""
        return self.total.level if self.total.tested else None

    @property
    def total(self) -> ClauseResult:
        """Return the result of all vectors."""
        total = ClauseResult("all")
        for outcome in self.outcomes:
            total.add(outcome)
        return total

    @property
    def failures(self) -> list[Outcome]:
        """Return the outcomes that contradict conformance."""
        return [outcome for outcome in self.outcomes if outcome.status in ("failed", "unanswered")]

    @property
    def status(self) -> int:
        """Return the exit status."""
        if self.error:
            return HARNESS_FAILED
        return DOES_NOT_CONFORM if self.failures or self.supports_too_little else CONFORMS

    @property
    def supports_too_little(self) -> bool:
        """Tell whether the port supports too few vectors to be judged; see CONFORMANCE.md."""
        if not self.selection and any(o.status == "unsupported" for o in self.outcomes if is_required(o.vector)):
            return True
        # A port that refuses everything passes the refusals, so they do not count.
        counting = [o for o in self.outcomes if o.vector.kind != "refusal"] or self.outcomes
        return all(outcome.status == "unsupported" for outcome in counting)

    def by_clause(self) -> list[ClauseResult]:
        """Return the result of each clause, in the order of the specification."""
        results: dict[str, ClauseResult] = {}
        for outcome in self.outcomes:
            for clause in outcome.vector.clauses:
                results.setdefault(clause, ClauseResult(clause)).add(outcome)
        return [results[clause] for clause in sorted(results, key=_clause_number)]

    def by_section(self) -> list[ClauseResult]:
        """Return one result for each section, or for each clause if any of them is not exact or not supported."""
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
        """Return the smallest failing vector, preferably an unexplained one."""
        unexplained: Sequence[Outcome] = getattr(self.diagnosis, "unexplained", None) or self.failures
        # A wrong answer is more informative than a missing one.
        return min(
            unexplained, key=lambda o: (o.vector.kind == "refusal", o.status == "unanswered", _size(o)), default=None
        )

    def reasons_unsupported(self) -> list[tuple[str, int]]:
        """Return each feature that the port lacks, with the number of vectors that need it."""
        reasons: Counter[str] = Counter()
        for outcome in self.outcomes:
            if outcome.status == "unsupported":
                options = getattr(outcome.reply, "options", ())
                reasons.update([f"no option {option}" for option in options] or [outcome.detail])
        return reasons.most_common()

    def verdict(self) -> str:
        """Return the result of the run in one sentence."""
        if self.error:
            return f"The run failed: {self.error.splitlines()[0]}"
        total = counted(len(self.outcomes), "vector")
        missing = self.counts["unsupported"]
        unsupported = f"({missing} of {total} {'is' if missing == 1 else 'are'} unsupported)"
        if self.failures:
            of = self.selected() if self.selection else total
            return f"{self.port} does not conform: it fails {len(self.failures)} of {of}."
        if self.supports_too_little:
            selected = f" in {self.selected()}" if self.selection else ""
            return f"{self.port} supports too little to judge{selected} {unsupported}."
        vectors = f" in {self.selected()}" if self.selection else ""
        rest = f"{',' * bool(vectors)} in all vectors that it supports {unsupported}" if missing else ""
        return f"{self.port} conforms to Rose {self.revision} at level {self.level}{vectors}{rest}."

    def selected(self) -> str:
        """Return the number of selected vectors, with the arguments that selected them."""
        return f"the {counted(len(self.outcomes), 'vector')} selected by {self.selection} ({self.available} in all)"

    def to_json(self) -> str:
        """Return the report in JSON."""
        explanations = [{"text": e.text, "count": e.count} for e in getattr(self.diagnosis, "explanations", ())]
        content = {
            "format": 1,
            "port": self.port,
            "kit": version("rose-core"),
            "revision": self.revision,
            "command": self.command,
            "selected_by": self.selection or None,
            "asked": self.required,
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
    """Return a number with its noun, in the singular if the number is 1."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def is_required(vector: Vector) -> bool:
    """Tell whether a port must support a vector to be judged: a plain step at the default compute dtype."""
    return (
        vector.kind == "step"
        and "noise" not in vector.input
        and set(vector.input["options"]) <= PLAIN_OPTIONS
        and any(clause.split(".")[0] in FORMULAS for clause in vector.clauses)
    )


def _size(outcome: Outcome) -> int:
    """Return the size of a vector for a reader."""
    steps = sum(len(e.request.param.values) for e in outcome.exchanges if isinstance(e.request, StepRequest))
    return steps or len(str(outcome.vector.input))


def _clause_number(clause: str) -> tuple[int, ...]:
    """Return a sort key of a clause; the clauses of an appendix, such as ROSE-A.1, come last."""
    return tuple(int(part) if part.isdigit() else 1000 for part in clause.removeprefix("ROSE-").split("."))


def _ulps(value: float) -> float | None:
    """Return a number of ulps, or None if it is infinite, which JSON cannot hold."""
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
