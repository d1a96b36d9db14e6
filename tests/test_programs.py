"""The programs of `examples/programs/` are short and learn, and the table of learning rates is made from them."""

import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rose_numpy
from tests.examples import EXAMPLES, Load

PROGRAMS = sorted(path.stem for path in (EXAMPLES / "programs").glob("*.py"))

# The number of steps, the learning rate, and a score that is reached with Rose after these steps. A worse start is not
# below it.
LEARNS = {
    "convolution": (25, 0.03, 0.3),
    "factorization": (100, 0.3, 0.2),
    "inference": (60, 0.3, 180.0),
    "pinn": (150, 0.03, 0.3),
    "resumed": (50, 0.03, 0.1),
    "transformer": (10, 0.03, 4.0),
}


def test_the_programs_are_those_that_are_tested() -> None:
    assert list(LEARNS) == PROGRAMS


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_has_at_most_120_lines(name: str) -> None:
    assert len((EXAMPLES / "programs" / f"{name}.py").read_text().splitlines()) <= 120


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_learns_with_rose(name: str, load: Load) -> None:
    program = load(f"programs.{name}")
    steps, lr, reached = LEARNS[name]
    assert program.train(program.rose, lr, 0, 0) > reached
    assert program.train(program.rose, lr, steps, 0) < reached


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name != "resumed"])
def test_a_program_prints_its_score(name: str, load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    load(f"programs.{name}").main(["--steps", "2"])
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert math.isfinite(float(re.findall(r"\d+\.\d+", printed)[0]))


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = EXAMPLES / "programs" / "resumed.py"
    command = [sys.executable, str(script), "--folder", str(folder), "--steps", "20", "--every", "4", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_a_killed_program_continues_with_the_same_bits(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    assert run(tmp_path / "killed", "--kill-at", "10").returncode == -signal.SIGKILL
    continued = run(tmp_path / "killed")
    assert continued.stdout == "continues at step 8\n" + whole.stdout
    lines = whole.stdout.splitlines()
    assert re.fullmatch(r"[0-9a-f]{64}", lines[-1])
    assert all(len(line) <= 80 for line in lines)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_step_of_the_variational_inference_is_large(seed: int, load: Load) -> None:
    steps = []

    class Diagnosed(rose_numpy.Rose):
        def step(self, grads: Any) -> None:
            steps.extend(entry.largest_step for entry in rose_numpy.diagnose(self, grads))
            super().step(grads)

    load("programs.inference").train(lambda weights, lr: Diagnosed(weights, lr, weight_decay=0.0), 0.3, 200, seed)
    assert len(steps) == 2 * 200
    assert 0.5 < max(step for step in steps if step is not None) <= 1.1


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_a_program_that_is_killed_before_its_first_checkpoint_begins_again(tmp_path: Path) -> None:
    assert run(tmp_path / "killed", "--kill-at", "3").returncode == -signal.SIGKILL
    assert run(tmp_path / "killed").stdout == run(tmp_path / "whole").stdout


@pytest.mark.slow
def test_the_table_of_learning_rates_has_a_row_for_each_task(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = ["linear model, 16 x 500", "the same, centered"]
    options = ["--seeds", "2", "--lrs", "0.01", "0.1", "--shorter", "2"]
    load("learning_rates").main(["--tasks", *tasks, *options])
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert header.count("|") == 7
    assert [row.split("|")[1].strip() for row in rows] == tasks
    assert all(row.count("|") == 7 for row in rows)


def test_the_best_learning_rate_is_the_middle_of_the_plateau(load: Load) -> None:
    best_of = load("learning_rates").best_of
    assert best_of({0.01: 5.0, 0.1: 1.01, 1.0: 1.0, 10.0: 1.1}) == (1.0, pytest.approx(math.sqrt(0.1)))
    assert best_of({0.01: math.nan, 0.1: 2.0, 1.0: math.inf}) == (2.0, pytest.approx(0.1))
    assert all(math.isnan(value) for value in best_of({0.1: math.nan}))


def test_a_spread_shows_the_median_and_the_extremes(load: Load) -> None:
    row = load("learning_rates").row([(2.0, 0.1), (1.0, 0.1), (4.0, 0.1)], [(1.0, 1.0), (1.0, 0.1), (1.0, 0.1)])
    assert row == ["2 (1 to 4)", "0.1", "1", "0.1 (0.1 to 1)", "1 (1 to 10)"]
