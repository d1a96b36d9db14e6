"""Fixtures, hypothesis profiles, the workers of pytest-xdist, and the summaries that a run prints at its end."""

import importlib
import os
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest

from rose_kernels import Kind, readiness
from tests.backends import Backend
from tests.examples import EXAMPLES, Load
from tests.tally import add_tally, difference_lines, plain_tally, tally_lines

# Each worker of pytest-xdist has as many OpenMP threads as there are processors. While they wait, they must sleep
# instead of spin, or they take the time of the other workers. OpenMP reads this when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# A shell that starts a job in the background makes it ignore Ctrl-C, and so would the processes that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no error (too_slow). The settings of `backend` are the same for every example.
_SUPPRESSED = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture]
hypothesis.settings.register_profile("default", deadline=None, print_blob=True, suppress_health_check=_SUPPRESSED)
hypothesis.settings.register_profile("thorough", hypothesis.settings.get_profile("default"), max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True)
def kernels_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run kernels from the first step on, also with ``fused=None``: most tests are too small to reach them."""

    def is_ready(kind: Kind, elements: int, *, demanded: bool) -> bool:  # noqa: ARG001
        return readiness.is_ready(kind, elements, demanded=True)

    monkeypatch.setattr("rose_kernels.kernels.is_ready", is_ready)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Return the array library to run on, with its settings in effect."""
    chosen: Backend = request.param
    if reason := chosen.missing():
        pytest.skip(reason)
    with chosen.settings():
        yield chosen


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Return a function that imports an example, with the folder of the examples on the path."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the counts of compared bits, if this process is a worker of pytest-xdist."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tally"] = plain_tally()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add the counts of a worker that has finished. A worker that crashed has none."""
    if output := getattr(node, "workeroutput", None):
        add_tally(output["tally"])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the reasons of skipped tests with their numbers, and the tables of what was compared."""
    reasons = Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", []))
    if reasons:
        terminalreporter.section("skipped")
        for reason, number in reasons.most_common():
            terminalreporter.write_line(f"{number:>5} {reason.removeprefix('Skipped: ')}")
    if lines := tally_lines():
        terminalreporter.section("bits compared")
        for line in lines:
            terminalreporter.write_line(line)
    if lines := difference_lines():
        terminalreporter.section("largest relative differences from other implementations")
        for line in lines:
            terminalreporter.write_line(line)
