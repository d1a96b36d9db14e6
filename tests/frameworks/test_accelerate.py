"""Runs with Accelerate have the bits of a plain loop, with accumulation, clipping and resuming."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader

from rose_torch import Rose, diagnose
from tests.frameworks.training import NOT_INSTALLED, Regression, assert_same_weights, batches, plain_loop

accelerate = pytest.importorskip("accelerate", reason=NOT_INSTALLED)
pytestmark = pytest.mark.usefixtures("_fresh_accelerate")

STEPS, ACCUMULATED, CLIP, LR = 6, 2, 0.1, 0.01

PRECISIONS = {"bf16 autocast": ("bf16", torch.float32), "bf16 weights": ("no", torch.bfloat16)}
precisions = pytest.mark.parametrize(("precision", "dtype"), PRECISIONS.values(), ids=PRECISIONS)


def start(dtype: torch.dtype) -> tuple[Regression, Rose, CosineAnnealingLR]:
    """Return a model, its optimizer and its schedule. They are the same in every call."""
    torch.manual_seed(0)
    model = Regression(dtype)
    optimizer = Rose(model.parameters(), lr=LR, sr_seed=3)
    return model, optimizer, CosineAnnealingLR(optimizer, STEPS)


def prepared(precision: str, dtype: torch.dtype) -> tuple[Any, ...]:
    accelerator = accelerate.Accelerator(
        cpu=True,
        mixed_precision=precision,
        gradient_accumulation_steps=ACCUMULATED,
        step_scheduler_with_optimizer=False,
    )
    model, optimizer, schedule = start(dtype)
    loader = DataLoader(batches(STEPS * ACCUMULATED, dtype), batch_size=None)
    return accelerator, *accelerator.prepare(model, optimizer, schedule, loader)


def train(accelerator: Any, model: nn.Module, optimizer: Any, schedule: Any, loader: Any) -> None:
    for x, y in loader:
        with accelerator.accumulate(model):
            accelerator.backward(model(x, y))
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            if accelerator.sync_gradients:
                schedule.step()
            optimizer.zero_grad()


def expected(precision: str, dtype: torch.dtype) -> Regression:
    """Return the model after a plain loop."""
    model, optimizer, schedule = start(dtype)
    given = batches(STEPS * ACCUMULATED, dtype)
    plain_loop(
        model,
        optimizer,
        [given[i : i + ACCUMULATED] for i in range(0, len(given), ACCUMULATED)],
        lambda model, batch: model(*batch) / ACCUMULATED,
        schedule=schedule,
        clip=CLIP,
        autocast=torch.bfloat16 if precision == "bf16" else None,
    )
    return model


@precisions
def test_a_run_has_the_bits_of_a_plain_loop(precision: str, dtype: torch.dtype) -> None:
    accelerator, model, optimizer, schedule, loader = prepared(precision, dtype)
    train(accelerator, model, optimizer, schedule, loader)
    assert_same_weights(accelerator.unwrap_model(model), expected(precision, dtype))


@precisions
def test_a_resumed_run_has_the_bits_of_a_plain_loop(precision: str, dtype: torch.dtype, tmp_path: Path) -> None:
    accelerator, model, optimizer, schedule, loader = prepared(precision, dtype)
    done = STEPS // 2 * ACCUMULATED
    train(accelerator, model, optimizer, schedule, list(loader)[:done])
    accelerator.save_state(tmp_path)

    accelerator, model, optimizer, schedule, loader = prepared(precision, dtype)
    accelerator.load_state(tmp_path)
    train(accelerator, model, optimizer, schedule, list(loader)[done:])
    assert_same_weights(accelerator.unwrap_model(model), expected(precision, dtype))


def test_the_prepared_optimizer_can_be_diagnosed() -> None:
    accelerator, model, optimizer, _, loader = prepared("no", torch.float32)
    x, y = next(iter(loader))
    accelerator.backward(model(x, y))
    found = diagnose(optimizer, model)
    assert [entry.name for entry in found] == [name for name, _ in model.named_parameters()]
    assert all(entry.update_rms for entry in found)
