"""Muon beside torch.optim.Muon and pytorch_optimizer, 20 steps in float64."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from rose_core.peers import Muon
from tests.comparators.comparing import comparator
from tests.comparators.matrices import assert_close, relative_difference, torch_trajectory
from tests.peers.trajectories import data_of, trajectory

LR = 0.02
SHAPES = [(6, 4), (4, 6), (5, 5)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("adjust", [None, "match_rms_adamw"])
def test_torch_muon(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int], nesterov: bool, adjust: Any) -> None:
    """The cast to bfloat16 in torch gives float64 here, so that the formulas can be compared."""
    data = data_of(shape, "float64")
    options = {"scale": "spectral", "extra_scale": 0.2} if adjust else {"scale": "shape_scaling"}
    rule = Muon(nesterov=nesterov, coefficient_set="simple", eps=1e-7, **options)

    def make(param: Any) -> Any:
        return torch.optim.Muon([param], lr=LR, weight_decay=0.0, nesterov=nesterov, adjust_lr_fn=adjust)

    ours, _ = trajectory(rule, data, np.asarray, lr=LR, decay=1.0)
    in_bfloat16 = torch_trajectory(make, data)
    assert 1e-4 < relative_difference(in_bfloat16, ours, data) < 0.05
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda x: x.double().clone())
    assert_close(torch_trajectory(make, data), ours, data, "Muon torch.optim.Muon, in float64")


@pytest.mark.parametrize("shape", [*SHAPES, (4, 3, 2, 2)])
def test_pytorch_optimizer_muon(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]) -> None:
    others = comparator("pytorch_optimizer")
    from pytorch_optimizer.optimizer.muon import base

    data = data_of(shape, "float64")
    rule = Muon(nesterov=True, coefficient_set="simple", scale="spectral", extra_scale=0.2, eps=1e-7)

    def make(param: Any) -> Any:
        return others.Muon([{"params": [param], "use_muon": True}], lr=LR, use_adjusted_lr=True)

    ours, _ = trajectory(rule, data, np.asarray, lr=LR, decay=1.0)
    in_float64 = partial(base.zero_power_via_newton_schulz_5, dtype=torch.float64)
    monkeypatch.setattr(base, "zero_power_via_newton_schulz_5", in_float64)
    assert_close(torch_trajectory(make, data), ours, data, "Muon pytorch_optimizer")
