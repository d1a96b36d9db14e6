"""A run with the Trainer of Transformers, for tests and as a process that is killed during the run.

python -m tests.frameworks.trainer_run FOLDER DTYPE NOISE STEP
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainerCallback, TrainingArguments

from rose_torch import Rose
from tests.frameworks.training import language_model, token_rows

__all__ = ["ACCUMULATED", "CLIP", "LR", "NOISE", "STEPS", "Killed", "arguments", "made_with", "trainer"]

STEPS: Final = 6
ACCUMULATED: Final = 2
BATCH: Final = 2
SAVED: Final = 2
LR: Final = 0.01
CLIP: Final = 0.5

NOISE: Final[dict[str, dict[str, Any]]] = {"seeded": {"sr_seed": 5}, "drawn": {"sr_seed": None}}


class Killed(TrainerCallback):
    """Kills the process during a step, like `kill -9`."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Kill the process after this number of steps."""
        if state.global_step == self._step:
            os.kill(os.getpid(), signal.SIGKILL)


def arguments(folder: Path, **options: Any) -> TrainingArguments:
    """Return the settings of a run."""
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": STEPS,
        "per_device_train_batch_size": BATCH,
        "gradient_accumulation_steps": ACCUMULATED,
        "max_grad_norm": CLIP,
        "use_cpu": True,
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return TrainingArguments(**(settings | options))


def made_with(model: torch.nn.Module, noise: str) -> tuple[Rose, LambdaLR]:
    """Return an optimizer and its schedule."""
    optimizer = Rose(model.parameters(), lr=LR, **NOISE[noise])
    return optimizer, LambdaLR(optimizer, lambda step: 1.0 - step / STEPS)


def trainer(folder: Path, dtype: torch.dtype, noise: str, *callbacks: Any, **options: Any) -> Trainer:
    """Return a trainer with a given optimizer."""
    model = language_model(dtype)
    return Trainer(
        model,
        arguments(folder, **options),
        train_dataset=token_rows(STEPS * ACCUMULATED * BATCH),
        optimizers=made_with(model, noise),
        callbacks=list(callbacks),
    )


def main(folder: str, dtype: str, noise: str, step: str) -> None:
    """Train until the callback kills the process."""
    killed = Killed(int(step))
    trainer(Path(folder), getattr(torch, dtype), noise, killed, save_strategy="steps", save_steps=SAVED).train()


if __name__ == "__main__":
    main(*sys.argv[1:])
