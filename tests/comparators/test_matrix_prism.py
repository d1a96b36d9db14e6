"""PRISM beside rollfast, 20 steps in float64."""

from typing import Any

import numpy as np
import pytest

from rose_core.peers import PRISM
from tests.comparators.matrices import assert_close, relative_difference, rollfast_module, rollfast_trajectory
from tests.peers.trajectories import data_of, trajectory

LR = 0.05
OPTIONS: dict[str, dict[str, Any]] = {
    "original": {},
    "original, gamma": {"gamma": 0.3},
    "original, no Nesterov": {"nesterov": False},
    "original, Nesterov after shaping": {"shape_nesterov": False},
    "original, corrected": {"bias_correction": True},
    "original, corrected without Nesterov": {"bias_correction": True, "nesterov": False},
    "bidirectional": {"mode": "bidirectional"},
    "bidirectional, options": {
        "mode": "bidirectional",
        "gamma_l": 0.4,
        "gamma_r": 2.0,
        "inv_steps": 4,
        "inv_eps": 1e-3,
        "inv_scale": 1.01,
        "eps_gram": 1e-4,
    },
}


@pytest.mark.parametrize("shape", [(6, 4), (3, 5)])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_rollfast_prism(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], shape: tuple[int, int]) -> None:
    prism = rollfast_module(monkeypatch, "prism")
    data = data_of(shape, "float64")
    expected = rollfast_trajectory(prism.scale_by_prism(**options), data.param, data.grads, LR)
    ours, _ = trajectory(PRISM(output_axis=1, **options), data, np.asarray, lr=LR, decay=1.0)
    assert_close(expected, ours, data, "PRISM rollfast, in float64")


def test_rollfast_prism_of_higher_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack of two matrices, whose columns are two axes. `reduction` names the rows of rollfast."""
    prism = rollfast_module(monkeypatch, "prism")
    data = data_of((2, 4, 3, 2), "float64")
    axes = prism.PrismDimensionNumbers(reduction_axis=(2, 3), output_axis=1)
    theirs = prism.scale_by_prism(weight_dimension_numbers=axes)
    expected = rollfast_trajectory(theirs, data.param, data.grads, LR)
    rule = PRISM(batch_axes=(0,), output_axis=1, reduction_axes=(2, 3))
    ours, _ = trajectory(rule, data, np.asarray, lr=LR, decay=1.0)
    assert_close(expected, ours, data, "PRISM rollfast, in float64")


def test_rollfast_prism_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own arithmetic. The difference is that of float32."""
    prism = rollfast_module(monkeypatch, "prism", wide=False)
    data = data_of((6, 4), "float32")
    expected = rollfast_trajectory(prism.scale_by_prism(), data.param, data.grads, LR)
    ours, _ = trajectory(PRISM(output_axis=1), data, np.asarray, lr=LR, decay=1.0)
    assert 1e-9 < relative_difference(expected, ours, data) < 1e-4
