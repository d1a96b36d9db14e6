"""The counts of compared bits, by backend, and the table of them that a run prints at its end.

With pytest-xdist each worker counts its comparisons. It sends the counts to the main process, which adds them up.
"""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

__all__ = [
    "DIFFERENCES",
    "TALLY",
    "WORST_ULPS",
    "add_tally",
    "count",
    "difference_lines",
    "plain_tally",
    "record_difference",
    "record_ulps",
    "tally_lines",
]

TALLY: Final = {column: Counter[str]() for column in ("cases", "elements", "mismatches")}
"""For each backend: the number of comparisons, of elements compared, and of elements that differ."""
WORST_ULPS: Final[dict[str, float]] = {}
"""The largest difference in units in the last place, for each backend with a tolerance."""

DIFFERENCES: Final[dict[str, float]] = {}
"""The largest relative difference from an implementation that others wrote, by the names of the rule and of it."""


def count(backend: str, elements: int, mismatches: int, *, cases: int = 1) -> None:
    """Count comparisons on a backend. An empty name counts nothing."""
    if backend:
        for column, number in (("cases", cases), ("elements", elements), ("mismatches", mismatches)):
            TALLY[column][backend] += int(number)  # pytest-xdist cannot send the integers of NumPy


def record_ulps(backend: str, ulps: float) -> None:
    """Keep the largest difference on a backend. NaN is larger than every number."""
    before = WORST_ULPS.get(backend, 0.0)
    WORST_ULPS[backend] = before if math.isnan(before) or before >= ulps else float(ulps)


def record_difference(pair: str, difference: float) -> None:
    """Keep the largest relative difference of a pair of implementations. NaN is larger than every number."""
    before = DIFFERENCES.get(pair, 0.0)
    DIFFERENCES[pair] = before if math.isnan(before) or before >= difference else float(difference)


def plain_tally() -> dict[str, dict[str, Any]]:
    """Return all counts in plain dicts, which a worker of pytest-xdist can send."""
    counts = {column: dict(counts) for column, counts in TALLY.items()}
    return {**counts, "ulps": dict(WORST_ULPS), "differences": dict(DIFFERENCES)}


def add_tally(plain: Mapping[str, Mapping[str, Any]]) -> None:
    """Add the counts of another process, as `plain_tally` returns them."""
    for column, counts in TALLY.items():
        counts.update(plain[column])
    for backend, ulps in plain["ulps"].items():
        record_ulps(backend, ulps)
    for pair, difference in plain.get("differences", {}).items():
        record_difference(pair, difference)


def difference_lines() -> list[str]:
    """Return the lines of the table of differences, none if nothing was compared."""
    width = max(map(len, DIFFERENCES), default=0)
    return [f"{pair:<{width}}{difference:>12.2g}" for pair, difference in sorted(DIFFERENCES.items())]


def tally_lines() -> list[str]:
    """Return the lines of the table, none if nothing was compared."""
    if not TALLY["cases"]:
        return []
    width = max(28, *(len(name) + 2 for name in TALLY["cases"]))
    lines = [f"{'backend':<{width}}{'cases':>10}{'elements':>14}{'mismatches':>12}{'max ulps':>10}"]
    for name in sorted(TALLY["cases"]):
        cases, elements, mismatches = (TALLY[column][name] for column in ("cases", "elements", "mismatches"))
        worst = f"{WORST_ULPS[name]:>10.3g}" if name in WORST_ULPS else ""
        lines.append(f"{name:<{width}}{cases:>10,}{elements:>14,}{mismatches:>12,}{worst}")
    return lines
