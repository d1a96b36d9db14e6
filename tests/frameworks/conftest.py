"""The frameworks as every test finds them: offline, and without what an earlier test has left."""

import os
from collections.abc import Iterator

import pytest
import torch

# Before a framework is imported, and for the processes that tests start.
os.environ.update(
    HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false"
)


collect_ignore = ["trainer_run.py"]  # importing it needs a framework; it has no doctest


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Let every test begin with the same random numbers."""
    torch.manual_seed(0)


@pytest.fixture
def _fresh_accelerate() -> Iterator[None]:
    """Forget the process-wide state of Accelerate, its mixed precision above all, after a test."""
    from accelerate.state import AcceleratorState, GradientState

    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
