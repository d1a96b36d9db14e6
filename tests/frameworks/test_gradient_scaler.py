"""torch.amp.GradScaler skips a step whose gradients overflow. The skipped step changes only the scale."""

from typing import Any

import pytest
import torch

from rose_torch import Rose
from tests.frameworks.training import Regression, assert_same_weights, batches

LR, OVERFLOWS, SCALE = 0.01, 2, 2.0**12


def loss_of(model: Regression, batch: Any) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return model(*batch)


def start(dtype: torch.dtype, noise: dict[str, Any]) -> tuple[Regression, Rose]:
    torch.manual_seed(0)
    model = Regression(dtype)
    return model, Rose(model.parameters(), lr=LR, **noise)


@pytest.mark.parametrize("unscaled", [True, False], ids=["unscaled before the step", "unscaled by the step"])
@pytest.mark.parametrize(
    ("dtype", "noise"),
    [(torch.float32, {}), (torch.bfloat16, {"sr_seed": 0}), (torch.bfloat16, {"bf16_sr": torch.Generator()})],
    ids=["float32", "bfloat16, seeded", "bfloat16, drawn"],
)
def test_a_run_with_a_skipped_step_has_the_bits_of_a_run_without_this_step(
    dtype: torch.dtype, noise: dict[str, Any], unscaled: bool
) -> None:
    generator = noise.get("bf16_sr", torch.Generator()).manual_seed(4)
    given = batches(5, dtype)
    model, optimizer = start(dtype, noise)
    scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
    for number, batch in enumerate(given):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, batch)).backward()
        if number == OVERFLOWS:
            next(model.parameters()).grad[0, 0] = torch.inf
        if unscaled:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
    assert scaler.get_scale() == SCALE / 2
    assert optimizer.param_groups[0]["step"] == len(given) - 1

    generator.manual_seed(4)
    expected, plain = start(dtype, noise)
    for number, batch in enumerate(given):
        if number != OVERFLOWS:
            plain.zero_grad()
            loss_of(expected, batch).backward()
            plain.step()
    assert_same_weights(model, expected)
