"""The summaries at the end of a run are the same with and without pytest-xdist."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.tally import TALLY, WORST_ULPS, add_tally, plain_tally, record_ulps

ROOT = Path(__file__).parents[1]

CONFTEST = "from tests.conftest import pytest_sessionfinish, pytest_terminal_summary, pytest_testnodedown\n"
TESTS = """
import numpy as np
import pytest
from tests.bits import assert_same_bits, assert_within_ulps

@pytest.mark.parametrize("size", range(1, 7))
def test_compares(size):
    assert_same_bits(np.zeros(size), np.zeros(size), backend="exact")
    ones = np.ones(1)
    assert_within_ulps(ones + size * np.spacing(1.0), ones, limit=9, magnitude=ones, backend="close")

@pytest.mark.parametrize("number", range(3))
def test_skips(number):
    pytest.skip("no device")
"""
SKIPPED_MODULE = "import pytest\npytest.skip('no framework', allow_module_level=True)\n"


@pytest.mark.parametrize("workers", [0, 2])
def test_the_summaries_count_every_worker_once(workers: int, tmp_path: Path) -> None:
    files = {"conftest.py": CONFTEST, "test_a.py": TESTS, "test_b.py": SKIPPED_MODULE}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "pytest", f"-n{workers}", "-q", "-c", os.devnull, "--rootdir", ".", "."]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["exact", "6", "21", "0"] in lines
    assert ["close", "6", "6", "6", "6"] in lines
    assert ["3", "no", "device"] in lines
    assert ["1", "no", "framework"] in lines


def test_counts_of_another_process_are_added() -> None:
    name = "a backend of this test"
    other = {**{column: {name: number} for column, number in zip(TALLY, (1, 5, 2), strict=True)}, "ulps": {name: 3.0}}
    for _ in range(2):
        add_tally(other)
    counts = plain_tally()
    assert [TALLY[column].pop(name) for column in TALLY] == [2, 10, 4]
    assert WORST_ULPS.pop(name) == 3.0
    assert counts["cases"][name] == 2


@pytest.mark.parametrize("ulps", [[1.0, np.nan, 2.0], [np.nan], [2.0, np.nan]])
def test_nan_is_the_worst_of_all_differences(ulps: list[float]) -> None:
    name = "a backend of this test"
    for value in ulps:
        record_ulps(name, value)
    assert np.isnan(WORST_ULPS.pop(name))
