"""Training of LoRA factors by PEFT has the bits of the core. Factors that cannot move cause a warning."""

import re
from typing import Any

import pytest
import torch

from rose_core import update
from rose_torch import Rose
from tests.bits import assert_same_bits, raw_words
from tests.frameworks.training import NOT_INSTALLED, language_model, token_rows

peft = pytest.importorskip("peft", reason=NOT_INSTALLED)
# PEFT uses a deprecated name of Transformers.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning:transformers")

LR, STEPS = 1e-3, 4


def adapted(rank: int) -> Any:
    """Return the language model with LoRA factors of this rank. It is the same in every call."""
    model = language_model()
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    torch.manual_seed(3)
    return peft.get_peft_model(model, config)


def factors(model: Any) -> dict[str, torch.nn.Parameter]:
    return {name: param for name, param in model.named_parameters() if param.requires_grad}


def train(model: Any, optimizer: Rose, centralized: set[str]) -> None:
    """Train, and compare each step of each factor with the core."""
    for row in token_rows(STEPS):
        optimizer.zero_grad()
        model(**{key: value[None] for key, value in row.items()}).loss.backward()
        expected = {
            name: update(param.detach(), param.grad, lr=LR, centralize=name in centralized)
            for name, param in factors(model).items()
            if param.grad is not None
        }
        assert expected.keys() == factors(model).keys()
        optimizer.step()
        for name, param in factors(model).items():
            assert_same_bits(param, expected[name], backend="frameworks", what=name)


@pytest.mark.parametrize("rank", [1, 8])
def test_only_the_factors_move(rank: int) -> None:
    model = adapted(rank)
    one_column = {name for name, param in factors(model).items() if param.shape[1] == 1}
    assert len(one_column) == (2 if rank == 1 else 0)
    before = {name: raw_words(param).copy() for name, param in model.named_parameters()}
    groups = [
        {"params": [entry for entry in factors(model).items() if entry[0] not in one_column]},
        {"params": [entry for entry in factors(model).items() if entry[0] in one_column], "centralize": False},
    ]
    train(model, Rose([group for group in groups if group["params"]], lr=LR), set(factors(model)) - one_column)
    moved = {name for name, param in model.named_parameters() if (raw_words(param) != before[name]).any()}
    assert moved == set(factors(model))


def test_factors_of_rank_1_that_cannot_move_cause_a_warning_with_their_names() -> None:
    model = adapted(1)
    names = ", ".join(
        f"parameter {name!r} of shape {tuple(param.shape)}"
        for name, param in factors(model).items()
        if param.shape[1] == 1
    )
    assert names.count("lora_B") == 2
    with pytest.warns(UserWarning, match=rf"\A{re.escape(names)}: slices of one element are their own mean") as caught:
        optimizer = Rose(factors(model).items(), lr=LR)
    assert len(caught) == 1
    train(model, optimizer, set(factors(model)))
    assert all(not param.any() for name, param in factors(model).items() if "lora_B" in name)
