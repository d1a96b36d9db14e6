"""The benchmark: its measurements, tables, plot and JSON file."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.examples import EXAMPLES, Load

PNG = b"\x89PNG\r\n\x1a\n"
CASES = ("gpt", "resnet50", "lora", "small", "row", "rows64", "rows27", "rows9")
ROSES = ("rose_numpy fused", "rose_torch fused", "rose_torch", "rose-opt")
ROWS = [
    "torch.add float32",
    *(f"{name} {compute}" for compute in ("fp64", "fp32") for name in ROSES),
    *("AdamW", "AdamW fused", "SGD fused"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benchmark")


@pytest.fixture(scope="module")
def printed(folder: Path) -> str:
    """Return the output of a run with every case. Its files are in `folder`."""
    sizes = ["--elements", "1000", "--scaling", "50000", "200000"]
    done = run(*sizes, "--cases", *CASES, "--dtypes", "float32", "--json", "run.json", folder=folder)
    assert done.returncode == 0, done.stderr
    assert "rows9, float32, 1 thread (8 of 8)" in done.stderr  # the progress bar
    return done.stdout


@pytest.fixture(scope="module")
def saved(folder: Path, printed: str) -> dict[str, Any]:
    assert "measurements saved as run.json" in printed
    return json.loads((folder / "run.json").read_text())


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    # One thread, since idle OpenMP threads would take time from other processes.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    command = [sys.executable, str(EXAMPLES / "benchmark.py"), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def result(load: Load, **seconds: list[float]) -> Any:
    """Return a result with these durations of torch.add, rose-opt, rose_torch and AdamW."""
    measurement = load("benchmark_measurement")
    names = {
        "add": ("torch.add float32", ""),
        "upstream": ("rose-opt", "fp64"),
        "rose": ("rose_torch", "fp64"),
        "adam": ("AdamW", ""),
    }
    measured = [measurement.Measurement(*names[key], values, 3 << 20, 0) for key, values in seconds.items()]
    return measurement.Result("small", "float32", 2, 1000, 100_000, measured)


def rendered(table: Any, width: int) -> str:
    from rich.console import Console

    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


@pytest.mark.slow
def test_every_case_has_a_table_with_every_contender_in_80_columns(printed: str) -> None:
    tables = printed.partition("Time of a step in adds")[0]
    for row in ROWS:
        assert len(re.findall(rf"^ {re.escape(row)} +[\d.,]+ ", tables, re.MULTILINE)) == len(CASES), row
    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= 80


@pytest.mark.slow
def test_the_summary_has_a_column_for_each_case_and_the_scaling_table_for_each_size(printed: str) -> None:
    assert re.search(rf"^ +{' +'.join(CASES)} *$", printed, re.MULTILINE)
    assert re.search(r"^ +[45]\d,\d{3} +[12]\d\d,\d{3} *$", printed, re.MULTILINE)


@pytest.mark.slow
def test_the_plot_is_a_png_file(folder: Path, printed: str) -> None:
    assert "plot saved as benchmark.png" in printed
    assert (folder / "benchmark.png").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_the_json_file_has_the_environment_and_every_round(saved: dict[str, Any]) -> None:
    assert set(saved) == {"environment", "command", "options", "results", "scaling", "notes"}
    packages = {"numpy", "torch", "numba", "rose-core", "rose-opt"}
    assert set(saved["environment"]) == {"python", "system", "cpu", "cores", "logical_cores"} | packages
    assert saved["environment"]["torch"] == torch.__version__
    assert [result["case"] for result in saved["results"]] == list(CASES)
    for result in saved["results"]:
        assert [f"{m['contender']} {m['compute']}".rstrip() for m in result["measurements"]] == ROWS
        assert all(len(m["seconds"]) == 9 and min(m["seconds"]) > 0 for m in result["measurements"])
    assert [len(result["measurements"]) for result in saved["scaling"]] == [4, 4]


@pytest.mark.slow
def test_the_ratios_in_the_json_file_follow_from_its_rounds(saved: dict[str, Any]) -> None:
    for result in saved["results"]:
        add, *others = result["measurements"]
        for measured in others:
            ratios = sorted(a / b for a, b in zip(measured["seconds"], add["seconds"], strict=True))
            assert measured["in_adds"] == {"median": ratios[4], "least": ratios[0], "most": ratios[8]}
            assert (measured["speed_vs_rose_opt"] is None) == (measured["compute"] == "")


def test_ratios_are_computed_in_each_round(load: Load) -> None:
    made_up = result(load, add=[1.0, 2.0, 4.0], upstream=[6.0, 8.0, 40.0], rose=[3.0, 2.0, 4.0], adam=[2.0, 2.0, 2.0])
    _, upstream, rose, adam = made_up.measurements
    assert made_up.in_adds(rose) == (1.0, 1.0, 3.0)
    assert made_up.in_adds(adam) == (1.0, 0.5, 2.0)
    assert made_up.speed(rose) == 4.0  # the median of 2, 4 and 10
    assert made_up.speed(upstream) == 1.0
    assert made_up.speed(adam) is None


def test_without_rose_opt_there_is_no_speed(load: Load) -> None:
    made_up = result(load, add=[1.0], rose=[3.0])
    assert made_up.speed(made_up.measurements[1]) is None


def test_a_row_shows_ratios_then_milliseconds_then_mebibytes(load: Load) -> None:
    made_up = result(load, add=[1e-3] * 3, upstream=[9e-3] * 3, rose=[2e-3, 3e-3, 1234e-3])
    table = rendered(load("benchmark_report").table(made_up), 80)
    assert "tensors of 10 x 10, float32, 2 threads" in table
    assert "100,000 parameters in 1,000 tensors" in table
    row = next(line for line in table.splitlines() if "rose_torch" in line)
    assert row.split() == ["rose_torch", "fp64", "3.00", "2.00-1,234", "3.00", "3.00", "3.00", "3", "0"]


def test_markdown_rows_are_single_lines(load: Load) -> None:
    made_up = result(load, add=[1e-3], upstream=[9e-3], rose=[3e-3])
    lines = rendered(load("benchmark_report").table(made_up, markdown=True), 200).splitlines()
    table = [line.strip() for line in lines if line.startswith("|")]
    assert table[0].startswith("|                   | time in adds | least to most | speed vs rose-opt |")
    assert set(table[1]) == {"|", "-"}
    assert len(table) == 2 + 3
    assert len({line.count("|") for line in table}) == 1


@pytest.mark.parametrize(
    ("case", "parameters", "tensors"),
    [
        ("gpt", 41_997_312, 100),
        ("resnet50", 25_557_032, 161),
        ("lora", 4_194_304, 128),
        ("small", 100_000, 1000),
        ("row", 50_000_000, 1),
        ("rows64", 33_554_432, 2),
        ("rows27", 35_389_440, 5),
        ("rows9", 35_389_440, 15),
    ],
)
def test_a_case_has_its_size_and_keeps_its_row_length_when_scaled_down(
    case: str, parameters: int, tensors: int, load: Load
) -> None:
    cases = load("benchmark_cases")
    full, small = cases.CASES[case].up_to(math.inf), cases.CASES[case].up_to(1e6)
    assert (cases.parameters_in(full), len(full)) == (parameters, tensors)
    assert cases.parameters_in(small) == pytest.approx(min(parameters, 1e6), rel=0.04)
    if case != "row":
        assert {shape[1:] for shape in small} == {shape[1:] for shape in full}


def test_every_optimizer_changes_its_parameters_and_no_gradient(load: Load) -> None:
    cases = load("benchmark_cases")
    for contender in cases.CONTENDERS:
        for dtype in contender.dtypes:
            # Small values, since rounding to nearest would not change large bfloat16 values.
            parameters, grads = ([(scale * torch.randn(4, 3)).to(getattr(torch, dtype))] for scale in (1e-3, 1.0))
            before = parameters[0].clone(), grads[0].clone()
            contender.build(parameters, grads)()
            assert contender.is_optimizer == (not torch.equal(parameters[0], before[0])), contender
            assert torch.equal(grads[0], before[1]), contender


def test_the_memory_of_a_step_does_not_depend_on_memory_freed_before(load: Load) -> None:
    measurement = load("benchmark_measurement")
    if reason := measurement.memory_obstacle():
        pytest.skip(f"memory cannot be measured: {reason}")
    # Linux counts pages for each processor, and its sum is off by a few MiB.
    size, error = 128 * 2**20, 8 * 2**20
    for _ in range(2):
        assert measurement._peak_of(lambda: torch.ones(size // 4)) == pytest.approx(size, abs=error)
        # Blocks that are small enough to stay in the heap of the allocator.
        assert measurement._peak_of(lambda: [torch.ones(2**14) for _ in range(2**11)]) == pytest.approx(size, abs=error)
    assert measurement._peak_of(lambda: None) < error


def test_a_plan_that_does_not_fit_into_memory_is_skipped_with_a_note(load: Load) -> None:
    benchmark, notes = load("benchmark"), []
    plan = benchmark.Plan("row", [(1, 10**15)], "float32", 1)
    assert list(benchmark.measured([plan], benchmark.CONTENDERS, 9, notes, with_memory=False)) == []
    assert re.fullmatch(
        r"row, float32, 1 thread \(1,0{3}.*\) is not measured, since it needs about [\d.]+ GiB .*", notes[0]
    )


@pytest.mark.parametrize(
    ("module", "absent", "note"), [("numba", "fused fp", "Numba is not"), ("rose_opt", "rose-opt", "rose-opt is not")]
)
def test_contenders_of_missing_modules_are_skipped_with_a_note(
    module: str, absent: str, note: str, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark = load("benchmark")
    monkeypatch.setattr(benchmark, "find_spec", lambda name: None if name == module else name)
    contenders, notes = benchmark.available_contenders()
    assert [note in line for line in notes] == [True]
    assert [c.label for c in contenders] == [c.label for c in benchmark.CONTENDERS if absent not in c.label]


@pytest.mark.slow
def test_bfloat16_is_also_compared_with_a_bfloat16_add(tmp_path: Path) -> None:
    arguments = ["--cases", "lora", "--dtypes", "bfloat16", "--elements", "1000", "--no-scaling", "--no-memory"]
    done = run(*arguments, "--no-plot", "--markdown", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| (\S.*?) +\|", done.stdout.partition("Time of a step")[0], re.MULTILINE)
    assert rows == [ROWS[0], "torch.add bfloat16", *ROWS[1:]]
    assert not list(tmp_path.iterdir())
