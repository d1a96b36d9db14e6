"""Settings of the frameworks: offline, with fixed seeds, and without state of earlier tests."""

import os
from collections.abc import Iterator

import pytest
import torch

# Frameworks read these when they are imported. Processes that tests start inherit them.
os.environ.update(
    HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false"
)


collect_ignore = ["trainer_run.py"]  # importing it needs a framework, and it has no doctest


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Seed torch before each test."""
    torch.manual_seed(0)


@pytest.fixture
def _fresh_accelerate() -> Iterator[None]:
    """Reset the process-wide state of Accelerate after a test, for instance its mixed precision."""
    from accelerate.state import AcceleratorState, GradientState

    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
