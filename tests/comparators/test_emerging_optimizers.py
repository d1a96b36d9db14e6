"""The update functions against those of emerging_optimizers, in float64. The package needs Python 3.12."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from rose_core.peers import emerging
from tests.comparators.comparing import assert_close, comparator, grads

originals = comparator("emerging_optimizers.scalar_optimizers.update_functions")

ADAM = {"betas": (0.8, 0.95), "eps": 1e-3}
CASES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "adam": ("adam", 2, {**ADAM, "correct_bias": True, "nesterov": False}),
    "adam, Nesterov": ("adam", 2, {**ADAM, "correct_bias": True, "nesterov": True}),
    "adam, Nesterov, uncorrected": ("adam", 2, {**ADAM, "correct_bias": False, "nesterov": True}),
    "ademamix": (
        "ademamix",
        3,
        {
            "betas": (0.8, 0.95, 0.99),
            "eps": 1e-3,
            "correct_bias": True,
            "num_beta_slow_warmup_steps": None,
            "num_alpha_warmup_steps": None,
        },
    ),
    "ademamix, warmup": (
        "ademamix",
        3,
        {
            "betas": (0.8, 0.95, 0.99),
            "eps": 1e-3,
            "correct_bias": False,
            "num_beta_slow_warmup_steps": 15,
            "num_alpha_warmup_steps": 10,
            "alpha": 5,
        },
    ),
    "sim_ademamix": (
        "sim_ademamix",
        2,
        {
            "betas": (0.99, 0.95),
            "eps": 1e-3,
            "correct_bias": True,
            "num_beta_fast_warmup_steps": None,
            "min_beta_fast": 0.9,
        },
    ),
    "sim_ademamix, warmup": (
        "sim_ademamix",
        2,
        {
            "betas": (0.99, 0.95),
            "eps": 1e-3,
            "correct_bias": True,
            "num_beta_fast_warmup_steps": 15,
            "min_beta_fast": 0.9,
        },
    ),
    "sim_ademamix, uncorrected": (
        "sim_ademamix",
        2,
        {
            "betas": (0.99, 0.95),
            "eps": 1e-3,
            "correct_bias": False,
            "num_beta_fast_warmup_steps": None,
            "min_beta_fast": 0.9,
            "alpha": 0.5,
        },
    ),
    "laprop": ("laprop", 2, {**ADAM, "correct_bias": True}),
    "laprop, uncorrected": ("laprop", 2, {**ADAM, "correct_bias": False}),
    "lion": ("lion", 1, {"betas": (0.9, 0.99)}),
    "madam": ("madam", 2, {"betas": (0.8, 0.95), "correct_bias": True, "scale_log2": 16}),
    "signum": ("signum", 1, {"momentum": 0.9, "correct_bias": True, "nesterov": False}),
    "signum, Nesterov": ("signum", 1, {"momentum": 0.9, "correct_bias": True, "nesterov": True}),
    "signum, scaled": (
        "signum",
        1,
        {"momentum": 0.9, "correct_bias": False, "nesterov": True, "use_shape_scaling": True},
    ),
}


@pytest.fixture(autouse=True)
def _not_compiled() -> Iterator[None]:
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.mark.parametrize("case", CASES)
def test_20_updates_agree(case: str) -> None:
    name, count, options = CASES[case]
    ours, original = (getattr(module, f"calculate_{name}_update") for module in (emerging, originals))
    mine: list[Any] = [np.zeros((6, 5))] * count
    theirs = [torch.zeros(6, 5, dtype=torch.float64) for _ in range(count)]
    for step, grad in enumerate(grads(), 1):
        given = options if name == "lion" else {**options, "step": step}
        update, *mine = ours(grad, *mine, **given)
        expected = original(torch.from_numpy(grad.copy()), *theirs, **given)
        for actual, reference in zip((update, *mine), (expected, *theirs), strict=True):
            assert_close(actual, reference.numpy(), f"{name}, emerging_optimizers")
