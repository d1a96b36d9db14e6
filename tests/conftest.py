"""Fixtures, hypothesis profiles, and the table of what was compared."""

import os
from collections import Counter
from collections.abc import Iterator

import hypothesis
import pytest

from tests.backends import Backend
from tests.bits import TALLY, WORST_ULPS

# A busy machine is no defect (too_slow), and the settings that `backend` holds are the same for every example.
_HEALTHY = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture]
hypothesis.settings.register_profile("default", deadline=None, print_blob=True, suppress_health_check=_HEALTHY)
hypothesis.settings.register_profile("thorough", hypothesis.settings.get_profile("default"), max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Return the array library to run on, in its settings."""
    chosen: Backend = request.param
    if reason := chosen.missing():
        pytest.skip(reason)
    with chosen.settings():
        yield chosen


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print why tests were skipped, and how much was compared on each backend."""
    reasons = Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", []))
    if reasons:
        terminalreporter.section("skipped")
        for reason, count in reasons.most_common():
            terminalreporter.write_line(f"{count:>5} {reason.removeprefix('Skipped: ')}")
    if not TALLY["cases"]:
        return
    terminalreporter.section("bits compared")
    terminalreporter.write_line(f"{'backend':<28}{'cases':>10}{'elements':>14}{'mismatches':>12}{'max ulps':>10}")
    for name in sorted(TALLY["cases"]):
        counts = [TALLY[column][name] for column in ("cases", "elements", "mismatches")]
        worst = f"{WORST_ULPS[name]:>10.3g}" if name in WORST_ULPS else ""
        terminalreporter.write_line(f"{name:<28}{counts[0]:>10,}{counts[1]:>14,}{counts[2]:>12,}{worst}")
