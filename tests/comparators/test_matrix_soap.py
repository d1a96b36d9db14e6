"""SOAP beside pytorch_optimizer, whose rule is that of the authors, 20 steps in float64."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from rose_core.peers import SOAP
from tests.comparators.comparing import comparator
from tests.comparators.matrices import assert_close, torch_trajectory
from tests.peers.trajectories import data_of, trajectory

soap = comparator("pytorch_optimizer.optimizer.soap")

LR = 0.02
OPTIONS: dict[str, dict[str, Any]] = {
    "authors": {},
    "each step": {"precondition_frequency": 1},
    "betas": {"betas": (0.9, 0.99), "shampoo_beta": 0.8},
    "no correction": {"correct_bias": False},
}


@pytest.fixture(autouse=True)
def _float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the QR decomposition cast to float64 in place of float32."""
    wider = ModuleType("wider")
    wider.__dict__.update(vars(torch) | {"float32": torch.float64})
    monkeypatch.setattr(soap, "torch", wider)


@pytest.mark.parametrize("shape", [(5, 4), (4, 5), (4, 4)])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_pytorch_optimizer_soap(options: dict[str, Any], shape: tuple[int, int]) -> None:
    """The first gradient leaves at most one eigenvalue of 0. Eigenvectors of two such values would be arbitrary."""
    data, options = data_of(shape, "float64"), {"precondition_frequency": 3, "eps": 1e-8} | options
    rule = SOAP(current_gradient=False, eps_added_to="uncorrected", **options)
    ours, _ = trajectory(rule, data, np.asarray, lr=LR, decay=1.0)
    theirs = torch_trajectory(lambda param: soap.SOAP([param], lr=LR, weight_decay=0.0, **options), data)
    assert_close(theirs, ours, data, "SOAP pytorch_optimizer")
