"""The rules against pytorch_optimizer, in float64."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from rose_core import peers
from rose_core.peers import Rule
from tests.comparators.comparing import DECAY, LR, assert_close, comparator, grads, param, run

others = comparator("pytorch_optimizer")


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def run_other(make: Callable[[Any], Any], hessian: np.ndarray | None = None) -> np.ndarray:
    x = torch.nn.Parameter(torch.from_numpy(param().copy()))
    optimizer = make([x])
    for grad in grads():
        x.grad = torch.from_numpy(grad.copy())
        if hessian is None:
            optimizer.step()
        else:
            optimizer.step(hessian=[torch.from_numpy(hessian.copy())])
    return x.detach().numpy()


BETAS = {"betas": (0.8, 0.95), "eps": 1e-3}
# LaProp and MARS of pytorch_optimizer add eps to the root before the bias correction.
NO_EPS = {"betas": (0.8, 0.95), "eps": 1e-40}


def qhadam(params: Any) -> Any:
    """Return QHAdam. It would hold the weights of its averages in float32, so it gets a state in float64."""
    optimizer = others.QHAdam(params, LR, **BETAS, nus=(0.7, 0.9), weight_decay=DECAY, weight_decouple=True)
    for x in params:
        moments = {name: torch.zeros_like(x.detach()) for name in ("exp_avg", "exp_avg_sq")}
        optimizer.state[x] = moments | {name: torch.zeros(1) for name in ("beta1_weight", "beta2_weight")}
    return optimizer


CASES: dict[str, tuple[Rule, Callable[[Any], Any], float]] = {
    "AdEMAMix": (
        peers.AdEMAMix(betas=(0.8, 0.95, 0.99), eps=1e-3, alpha=5.0),
        lambda p: others.AdEMAMix(p, LR, betas=(0.8, 0.95, 0.99), eps=1e-3, alpha=5.0),
        0.0,
    ),
    "QHAdamW": (
        peers.QHAdamW(**BETAS, nus=(0.7, 0.9)),
        qhadam,
        DECAY,
    ),
    "LaProp": (peers.LaProp(**NO_EPS), lambda p: others.LaProp(p, LR, **NO_EPS, foreach=False), 0.0),
    "Lion": (peers.Lion(), lambda p: others.Lion(p, LR, weight_decay=DECAY), DECAY),
    "MARS": (
        peers.MARS(**NO_EPS),
        lambda p: others.MARS(p, LR, **NO_EPS, weight_decay=DECAY, foreach=False),
        DECAY,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_20_steps_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rule, make, decay = CASES[name]
    # It adds 1e-15 to a second moment, whatever eps is.
    denominator = partial(others.LaProp.apply_ams_bound, exp_avg_sq_eps=0.0)
    monkeypatch.setattr(others.base.optimizer.BaseOptimizer, "apply_ams_bound", staticmethod(denominator))
    assert_close(run(rule, decay=decay), run_other(make), f"{name}, pytorch_optimizer")


def test_sophia_agrees_with_an_estimate_before_each_step() -> None:
    """The scale gamma is 1 there."""
    hessian = np.abs(param()) + 0.1
    theirs = run_other(lambda p: others.SophiaH(p, LR, betas=(0.8, 0.9), p=0.5), hessian)
    rule, x = peers.SophiaH(betas=(0.8, 0.9), gamma=1.0, rho=0.5), param()
    state = rule.init(x)
    for step, grad in enumerate(grads(), 1):
        state = rule.update_hessian(hessian, state, step=step - 1)
        direction, state = rule.update(grad, state, x, step=step)
        x = x - LR * direction
    assert_close(x, theirs, "SophiaH, pytorch_optimizer")
