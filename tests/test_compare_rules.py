"""The comparison of Rose with other rules: its sweep, its measurements, its tables and its plot."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rose_core.peers import AdamW, Lion, Rose
from tests.examples import Load
from tests.test_examples import PNG, run

GUIDE = Path(__file__).parents[1] / "rose_core" / "peers" / "README.md"
SIZES = (4, 1)


@pytest.mark.slow
def test_compare_rules_prints_two_tables_and_saves_a_plot(tmp_path: Path) -> None:
    rules = ["Rose", "Muon and AdamW"]
    options = ("--steps", "2", "--seeds", "2", "--width", "4", "--processes", "1")
    done = run("compare_rules.py", "--rules", *rules, *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| (\w[\w ]+?) \|(.+)\|$", done.stdout, re.MULTILINE)
    assert [row for row, _ in rows[:1] + rows[3:4]] == ["digits", "transformer"]
    assert {row for row, _ in rows[1:3]} == {row for row, _ in rows[4:]} == set(rules)
    assert all(cells.count("|") == 6 for _, cells in rows)
    assert "All runs are short: 2 steps." in done.stdout
    assert (tmp_path / "compare_rules.png").read_bytes().startswith(PNG)
    assert "4/4" in done.stderr  # the progress bar


def test_the_sweep_finds_the_best_options_and_reports_other_seeds(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, tasks, seen = load("comparison_runs"), load("comparison_tasks"), []

    def measured(_: str, __: Any, steps: int, ___: Any, seed: int, lr: float, weight_decay: float) -> Any:
        seen.append((seed, lr, weight_decay))
        # The best learning rate is 0.0003, and 0.1 diverges.
        loss = np.nan if lr == 0.1 else abs(np.log10(lr) + 3.5) + weight_decay + seed
        return runs.Run({steps: tasks.Score(loss, 0.5)}, 1.0, 0.0)

    monkeypatch.setattr(runs, "run", measured)
    outcome = runs.compare(5, SIZES, 2, ("digits", "Rose"))
    assert (outcome.task, outcome.rule, outcome.lr, outcome.weight_decay) == ("digits", "Rose", 0.0003, 0.0)
    assert seen[-3:] == [(0, 0.0003, 0.0), (1, 0.0003, 0.0), (2, 0.0003, 0.0)]
    assert {lr for _, lr, _ in seen} == {0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001}
    assert len(seen) == len(set(seen))


def test_the_losses_of_an_outcome_ascend_and_those_of_diverged_runs_are_infinite(load: Load) -> None:
    runs, tasks = load("comparison_runs"), load("comparison_tasks")
    measured = [
        runs.Run({1: tasks.Score(0.5, 0.0), 2: tasks.Score(loss, 0.0)}, 1.0, 0.0) for loss in (np.nan, 2.0, 1.0)
    ]
    outcome = runs.Outcome("digits", "Rose", 0.1, 0.0, measured)
    assert outcome.losses == [1.0, 2.0, np.inf]
    row = list(load("compare_rules").table("digits", [outcome]))[-1]
    assert row == "| Rose | 2.000 (1.000 to inf) | 0.0% | never | 0 | 1 | 0.1 | 0 |"


def test_a_plot_leaves_out_runs_that_diverged(load: Load, tmp_path: Path) -> None:
    runs, tasks = load("comparison_runs"), load("comparison_tasks")
    measured = [runs.Run({1: tasks.Score(loss, 0.0)}, 1.0, 0.0) for loss in (np.inf, 1.0)]
    outcome = runs.Outcome("digits", "Rose", 0.1, 0.0, measured)
    load("compare_rules").plot({"digits": [outcome], "transformer": [outcome]}, "title", tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize("task", ["digits", "transformer"])
def test_every_rule_starts_with_the_same_parameters_and_batches(task: str, load: Load) -> None:
    build = load("comparison_tasks").TASKS[task]
    trainings = [build(rule, SIZES, seed, lr=0.1) for rule, seed in ((Rose(), 1), (AdamW(), 1), (AdamW(), 2))]
    first, second, other = ([*training.evaluate()] for training in trainings)
    assert first == second != other
    grads = []
    for training in trainings:
        given = next(training.gradients)
        if given is None:
            given = {i: p.grad for group in training.optimizer.param_groups for i, p in enumerate(group["params"])}
        grads.append([np.asarray(grad).tobytes() for grad in given.values()])
    assert grads[0] == grads[1] != grads[2]


@pytest.mark.parametrize("task", ["digits", "transformer"])
@pytest.mark.parametrize(("rule", "state_bytes"), [(Rose(), 0.0), (Lion(), 4.0), (AdamW(), 8.0)])
def test_a_run_lowers_the_loss_and_counts_bytes_of_state(task: str, rule: Any, state_bytes: float, load: Load) -> None:
    run_ = load("comparison_runs").run
    measured = run_(task, rule, 6, (8, 1), 0, 0.003, 0.1)
    assert measured.state_bytes == state_bytes
    assert list(measured.scores) == list(range(1, 7))
    assert measured.final.loss < measured.scores[1].loss
    assert measured == run_(task, rule, 6, (8, 1), 0, 0.003, 0.1)._replace(milliseconds=measured.milliseconds)


def test_the_weight_decay_of_lamb_changes_its_run(load: Load) -> None:
    runs = load("comparison_runs")
    rule, _ = runs.RULES["LAMB"]
    first, second = (runs.run("digits", rule, 3, SIZES, 0, 0.01, decay).final.loss for decay in (0.0, 0.9))
    assert first != second


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rules", "Adam"], r"--rules: invalid choice: 'Adam'"),
        (["--steps", "1"], r"--steps: must be an integer in \[2, 1000000\], got 1"),
        (["--width", "5"], r"--width: must be even, got 5"),
        (["--plot", "no/such/folder/plot.png"], r"--plot .*: the folder does not exist"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_an_invalid_option_is_named(
    arguments: list[str], message: str, load: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        load("compare_rules").main(arguments)
    assert exit_.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_full_changes_the_options_that_are_not_given(load: Load) -> None:
    compare_rules = load("compare_rules")
    args = compare_rules.parse(["--full", "--steps", "7"])
    assert (args.steps, args.width) == (7, 64)
    assert set(args.rules) == set(compare_rules.RULES)


def test_the_guide_has_the_rules_of_the_script_and_the_ranks_of_rose(load: Load) -> None:
    compare_rules, ranks = load("compare_rules"), []
    section = GUIDE.read_text(encoding="utf-8").partition("## Compared on two small tasks")[2].partition("\n## ")[0]
    for task, target in compare_rules.TARGETS.items():
        header, _, *rows = section[section.index(f"| {task} |") :].partition("\n\n")[0].splitlines()
        assert f"| steps to {target} |" in header
        rules = [row.split("|")[1].strip() for row in rows]
        assert set(rules) == set(compare_rules.SMALL["rules"])
        ranks.append((rules.index("Rose") + 1, len(rules)))
    assert ranks == [(11, 14), (4, 14)]
    assert "Rose is fourth of 14 on the transformer, and eleventh on the digits." in section
    assert f"{compare_rules.SMALL['steps']} steps" in section
