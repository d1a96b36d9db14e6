"""Runs with the Trainer of Transformers have the bits of a plain loop, also after a crash."""

import importlib
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rose_torch import Rose
from tests.adapters.refusals import raises
from tests.frameworks.training import NOT_INSTALLED, assert_same_weights, language_model, plain_loop, token_rows

transformers = pytest.importorskip("transformers", reason=NOT_INSTALLED)
pytest.importorskip("accelerate", reason=NOT_INSTALLED)

from tests.frameworks.trainer_run import (  # noqa: E402  (imports the framework)
    ACCUMULATED,
    CLIP,
    LR,
    NOISE,
    STEPS,
    arguments,
    made_with,
    trainer,
)

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("_fresh_accelerate")

PRECISIONS = {
    "float32": (torch.float32, {}),
    "bf16 autocast": (torch.float32, {"bf16": True}),
    "bf16 weights": (torch.bfloat16, {}),
}
precisions = pytest.mark.parametrize(("dtype", "options"), PRECISIONS.values(), ids=PRECISIONS)


class Recording:
    """A collator that records its batches in order."""

    def __init__(self) -> None:
        self.batches: list[dict[str, torch.Tensor]] = []

    def __call__(self, rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Return a batch of these rows."""
        batch = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
        self.batches.append(batch)
        return dict(batch)

    def steps(self) -> list[list[dict[str, torch.Tensor]]]:
        """Return the batches of each step."""
        assert len(self.batches) == STEPS * ACCUMULATED
        return [self.batches[i : i + ACCUMULATED] for i in range(0, len(self.batches), ACCUMULATED)]


def loss_of(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the part of a batch in the mean loss over all tokens of a step. All batches have the same size."""
    predicted = batch["labels"][:, 1:].numel()
    return model(**batch, num_items_in_batch=ACCUMULATED * predicted).loss


def plain(model: nn.Module, optimizer: Rose, schedule: Any, recording: Recording, options: dict[str, Any]) -> None:
    autocast = torch.bfloat16 if options.get("bf16") else None
    plain_loop(model, optimizer, recording.steps(), loss_of, schedule=schedule, clip=CLIP, autocast=autocast)


@precisions
def test_a_run_with_a_given_optimizer_has_the_bits_of_a_plain_loop(
    dtype: torch.dtype, options: dict[str, Any], tmp_path: Path
) -> None:
    run, recording = trainer(tmp_path, dtype, "seeded", **options), Recording()
    run.data_collator = recording
    run.train()
    expected = language_model(dtype)
    plain(expected, *made_with(expected, "seeded"), recording, options)
    assert_same_weights(run.model, expected)


@precisions
def test_a_run_with_an_optimizer_built_by_the_trainer_has_the_bits_of_a_plain_loop(
    dtype: torch.dtype, options: dict[str, Any], tmp_path: Path
) -> None:
    """The Trainer builds two groups, with and without its weight_decay, and the schedule of its arguments."""
    recording, decay = Recording(), 0.5
    run = transformers.Trainer(
        language_model(dtype),
        arguments(tmp_path, weight_decay=decay, lr_scheduler_type="cosine", **options),
        train_dataset=token_rows(STEPS * ACCUMULATED * 2),
        data_collator=recording,
        optimizer_cls_and_kwargs=(Rose, {"lr": LR, "sr_seed": 5}),
    )
    run.train()
    expected = language_model(dtype)
    decayed = set(run.get_decay_parameter_names(run.model))
    assert 0 < len(decayed) < len(list(expected.parameters()))
    groups = [
        {"params": [p for n, p in expected.named_parameters() if n in decayed], "weight_decay": decay},
        {"params": [p for n, p in expected.named_parameters() if n not in decayed], "weight_decay": 0.0},
    ]
    optimizer = Rose(groups, lr=LR, sr_seed=5)
    plain(expected, optimizer, transformers.get_cosine_schedule_with_warmup(optimizer, 0, STEPS), recording, options)
    assert_same_weights(run.model, expected)


@pytest.mark.parametrize("noise", NOISE)
def test_a_killed_and_resumed_run_has_the_bits_of_an_uninterrupted_run(noise: str, tmp_path: Path) -> None:
    process = [sys.executable, "-W", "ignore", "-m", "tests.frameworks.trainer_run", str(tmp_path), "bfloat16", noise]
    done = subprocess.run([*process, "5"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-4"]

    resumed = trainer(tmp_path, torch.bfloat16, noise)
    resumed.train(resume_from_checkpoint=True)
    whole = trainer(tmp_path, torch.bfloat16, noise)
    whole.train()
    assert resumed.state.global_step == whole.state.global_step == STEPS
    assert_same_weights(resumed.model, whole.model)


def test_the_callback_logs_a_diagnosis_every_n_steps_and_changes_nothing(tmp_path: Path) -> None:
    from rose_torch.callbacks.transformers import DiagnosisCallback

    run = trainer(tmp_path / "one", torch.bfloat16, "drawn")
    run.add_callback(DiagnosisCallback(run.log, every_n_steps=4))
    run.train()
    logged = [entry for entry in run.state.log_history if any(key.startswith("rose/") for key in entry)]
    assert [entry["step"] for entry in logged] == [0, 4]
    names = {name for name, _ in run.model.named_parameters()}
    for entry in logged:
        assert {key.split("/")[1] for key in entry if key.startswith("rose/")} == names
        assert 0.0 < entry["rose/lm_head.weight/trust"] <= 1.0
        assert entry["rose/lm_head.weight/relative_update"] > 0.0
    without = trainer(tmp_path / "other", torch.bfloat16, "drawn")
    without.train()
    assert_same_weights(run.model, without.model)


def test_an_invalid_number_of_steps_raises() -> None:
    from rose_torch.callbacks.transformers import DiagnosisCallback

    with raises(ValueError, "every_n_steps must be an integer >= 1, got 0"):
        DiagnosisCallback(print, every_n_steps=0)


@pytest.mark.parametrize(
    ("module", "library", "text"),
    [
        ("transformers", "transformers", "needs Transformers: pip install transformers"),
        ("lightning", "lightning.pytorch.callbacks", "needs Lightning: pip install lightning"),
    ],
)
def test_importing_a_callback_without_its_framework_raises(
    module: str, library: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"rose_torch.callbacks.{module}"
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    with raises(ImportError, f"{name} {text}"):
        importlib.import_module(name)
