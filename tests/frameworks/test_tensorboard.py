"""TensorBoard reads the numbers that the recipe of the guide writes."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from tests.frameworks.training import NOT_INSTALLED

pytest.importorskip("tensorboard", reason=NOT_INSTALLED)

GUIDE = (Path(__file__).parents[2] / "examples" / "README.md").read_text(encoding="utf-8")


def test_the_recipe_writes_the_same_numbers_to_tensorboard_and_to_the_csv_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    blocks = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    (recipe,) = [block for block in blocks if "SummaryWriter" in block]
    monkeypatch.chdir(tmp_path)
    exec(compile(recipe, "README.md", "exec"), {})

    events = EventAccumulator("runs").Reload()
    read = [(event.step, tag, event.value) for tag in events.Tags()["scalars"] for event in events.Scalars(tag)]
    with Path("diagnosis.csv").open(newline="") as file:
        written = [(int(step), tag, float(np.float32(value))) for step, tag, value in csv.reader(file)]
    assert {step for step, _, _ in read} == {0, 50}
    assert sorted(read) == sorted(written)
