"""PyTorch optimizers as ports: rose_torch, rose-opt 1.0.2, and wrong ones."""

from collections import Counter
from typing import Any

import pytest
import torch

import rose_torch
from rose_spec.check import check, check_vector
from rose_spec.oracle import Tensor
from rose_spec.ports import HarnessError
from rose_spec.ports.torch_optimizer import TorchPort, from_torch, to_torch
from rose_spec.vectors import load_vectors
from tests.spec.samples import samples

VECTORS = {vector.id: vector for vector in samples()}
VECTORS_WITHOUT_DIGESTS = [vector for vector in load_vectors() if vector.kind != "digest"]

# The clauses that rose-opt 1.0.2 fails, with the reasons. Each is the first clause that a failing vector cites.
ORDER = "the mean, and with it the range, the gate and the step, depends on the order of the sum"
NOT_REFUSED = (
    "the checks only refuse values below 0, so NaN and infinities pass; "
    "the message for a negative lr, 'Invalid learning rate', does not name lr"
)
ROSE_OPT_FAILS = {
    "ROSE-1.2": ORDER,
    "ROSE-1.4": "a parameter without elements raises",
    "ROSE-2.5": ORDER,
    "ROSE-3.4": "an lr of 0 is recorded as initial_lr, and is the divisor",
    "ROSE-4.2": f"a constant slice is not exactly 0 when it is centred; {ORDER}",
    "ROSE-5.1": ORDER,
    "ROSE-5.2": "the standard deviation is Welford's, and torch's square root is not correctly rounded",
    "ROSE-5.4": "lerp uses fused multiply-adds",
    "ROSE-6.1": "an lr above the largest float32 cannot be converted",
    "ROSE-6.2": "the sign of NaN is 0",
    "ROSE-7.1": ORDER,
    "ROSE-7.2": ORDER,
    "ROSE-7.3": "the sum of large values is finite, but the sum of the specification overflows to NaN",
    "ROSE-8.2": "stochastic rounding turns the NaN 7fffffff into -0",
    "ROSE-10.1": NOT_REFUSED,
    "ROSE-10.3": "an integer wd_schedule is taken as true",
    "ROSE-11.1": NOT_REFUSED,
    "ROSE-12.1": "the NaN of a gradient of rank 0 is lost with its sign",
}


class Renamed(rose_torch.Rose):
    """Rose with another default for weight_decay, another name for lr, and fewer options."""

    def __init__(self, params: Any, rate: float, weight_decay: float = 0.0, extra: bool = False) -> None:
        self.extra = extra
        groups = [({**p, "lr": p["rate"]} if isinstance(p, dict) else {"params": [p], "lr": rate}) for p in params]
        super().__init__(groups, rate, weight_decay=weight_decay)


class Raising(torch.optim.Optimizer):
    """An optimizer that changes its parameters and then raises."""

    def __init__(self, params: Any, lr: float, **options: Any) -> None:
        super().__init__(params, {"lr": lr, **options})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # noqa: ARG002
        for group in self.param_groups:
            for param in group["params"]:
                param.add_(1.0)
        raise self.error

    error: Exception = RuntimeError("half way")


def port(name: str, options: Any = None, renames: Any = None) -> TorchPort:
    return TorchPort(name, options or {}, renames or {})


def patched_port(
    optimizer: type, monkeypatch: pytest.MonkeyPatch, options: Any = None, renames: Any = None
) -> TorchPort:
    """Return a port of a class of this module, importable from rose_torch during the test."""
    monkeypatch.setattr(rose_torch, "Patched", optimizer, raising=False)
    return port("rose_torch:Patched", options, renames)


def test_rose_torch_answers_every_sample_exactly() -> None:
    outcomes = list(check(port("rose_torch:Rose"), samples()[:-1]))
    assert {o.vector.id: o.detail for o in outcomes if o.status in ("failed", "unanswered")} == {}
    assert [o.vector.id for o in outcomes if o.status == "unsupported"] == ["noise-words"]


def test_rose_torch_conforms() -> None:
    outcomes = list(check(port("rose_torch:Rose"), VECTORS_WITHOUT_DIGESTS))
    assert {o.vector.id: o.detail for o in outcomes if o.status in ("failed", "unanswered")} == {}
    assert {o.vector.kind for o in outcomes if o.status == "unsupported"} == {"noise", "refusal"}


def test_rose_torch_reproduces_a_digest_although_it_draws_other_noise() -> None:
    assert check_vector(port("rose_torch:Rose"), VECTORS["digest-few"]).level == "exact"


def test_rose_opt_fails_these_clauses_for_these_reasons() -> None:
    outcomes = list(check(port("rose_opt:Rose"), VECTORS_WITHOUT_DIGESTS))
    failed = {o.vector.clauses[0] for o in outcomes if o.status in ("failed", "unanswered")}
    assert failed == set(ROSE_OPT_FAILS)
    assert {o.detail for o in outcomes if o.status == "unsupported"} == {
        "no option max_step",
        "no option max_step, maximize",
        "no option maximize",
        "no option sr_seed, so no portable noise",
        "an optimizer does not return its noise; trajectories with sr_seed check it",
        "an optimizer draws no noise for other parameters than bfloat16",
    }


def test_rose_opt_answers_most_vectors_exactly_and_most_others_at_level_formula() -> None:
    """Its formulas are right. Larger differences are defects, which are named above."""
    outcomes = [o for o in check(port("rose_opt:Rose"), VECTORS_WITHOUT_DIGESTS) if o.status != "unsupported"]
    levels = Counter(o.level for o in outcomes)
    assert levels["exact"] > 0.8 * len(outcomes)
    farther = {o.vector.clauses[0] for o in outcomes if o.level is None}
    assert farther.isdisjoint({"ROSE-1.2", "ROSE-2.5", "ROSE-5.1", "ROSE-5.4", "ROSE-7.1", "ROSE-7.2"})


def test_rose_opt_loses_the_nan_that_rose_torch_keeps() -> None:
    assert check_vector(port("rose_opt:Rose"), VECTORS["step-nan-noise"]).status == "failed"
    assert check_vector(port("rose_torch:Rose"), VECTORS["step-nan-noise"]).status == "passed"


def test_the_request_of_an_outcome_has_the_words_that_the_optimizer_drew() -> None:
    outcome = check_vector(port("rose_opt:Rose"), VECTORS["step-noise"])
    (exchange,) = outcome.exchanges
    assert outcome.level == "exact"
    assert exchange.request.noise == exchange.reply.noise  # type: ignore[union-attr]
    assert len(set(exchange.request.noise)) == 6  # type: ignore[union-attr, arg-type]


def test_a_changed_default_is_found_by_a_vector_that_passes_no_option(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = patched_port(Renamed, monkeypatch, renames={"lr": "rate"})
    assert check_vector(checked, VECTORS["step-defaults"]).status == "failed"
    assert check_vector(checked, VECTORS["step-matrix"]).status == "passed"


def test_a_missing_option_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = patched_port(Renamed, monkeypatch, renames={"lr": "rate"})
    details = {name: check_vector(checked, VECTORS[name]).detail for name in ("step-maximize", "step-reference")}
    assert details == {"step-maximize": "no option maximize", "step-reference": "no option wd_schedule"}
    assert check_vector(checked, VECTORS["step-noise"]).detail == "no option bf16_sr, so no stochastic rounding"
    assert check_vector(checked, VECTORS["trajectory-noise"]).detail == "no option sr_seed, so no portable noise"


def test_an_option_of_the_command_line_is_passed_in_every_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = patched_port(Renamed, monkeypatch, {"weight_decay": 1e-4}, {"lr": "rate"})
    assert check_vector(checked, VECTORS["step-defaults"]).status == "passed"


def test_an_option_that_the_constructor_lacks_is_an_error_of_the_harness() -> None:
    with pytest.raises(HarnessError, match=r"rose_opt:Rose has no option fused"):
        port("rose_opt:Rose", {"fused": True})


@pytest.mark.parametrize(
    ("renames", "message"),
    [
        ({"wd": "weight_decay"}, "--rename wd=weight_decay: wd must be one of lr, weight_decay, "),
        ({"weight_decay": "wd"}, "--rename weight_decay=wd: rose_opt:Rose has no option wd"),
    ],
)
def test_a_rename_of_an_unknown_option_is_an_error_of_the_harness(renames: dict[str, str], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        port("rose_opt:Rose", renames=renames)


def test_an_optimizer_without_lr_is_an_error_of_the_harness(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HarnessError, match="has no option lr; --rename lr=NAME"):
        patched_port(Renamed, monkeypatch)


def test_not_implemented_error_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Raising, "error", NotImplementedError("no float64 here"))
    for name in ("step-matrix", "trajectory-schedule", "refuse-lr"):
        outcome = check_vector(patched_port(Raising, monkeypatch), VECTORS[name])
        assert (outcome.status, outcome.detail) == ("unsupported", "no float64 here")


def test_an_object_that_is_not_an_optimizer_is_an_error_of_the_harness() -> None:
    with pytest.raises(HarnessError, match=r"must be a torch\.optim\.Optimizer"):
        port("rose_core:update")


def test_a_refusal_that_does_not_name_the_option_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = check_vector(port("rose_opt:Rose"), VECTORS["refuse-lr"])
    detail = "refused without naming lr: ValueError: Invalid learning rate: -0.5"
    assert (outcome.status, outcome.detail) == ("failed", detail)
    renamed = check_vector(patched_port(Renamed, monkeypatch, renames={"lr": "rate"}), VECTORS["refuse-lr"])
    assert renamed.detail.startswith("refused without naming rate: ValueError: lr must be")
    for name in ("refuse-narrow-noise", "refuse-shape"):
        assert check_vector(port("rose_opt:Rose"), VECTORS[name]).status == "passed"


def test_a_step_that_raises_after_a_change_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = check_vector(patched_port(Raising, monkeypatch), VECTORS["refuse-lr"])
    assert outcome.status == "unanswered"
    assert "raised after it changed the parameter (ROSE-11.3)" in outcome.detail


def test_an_optimizer_that_raises_something_else_leaves_the_vector_unanswered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Raising, "error", IndexError("no axis"))
    checked = patched_port(Raising, monkeypatch)
    assert check_vector(checked, VECTORS["step-matrix"]).detail == "raised IndexError: no axis"
    assert check_vector(checked, VECTORS["trajectory-schedule"]).detail == "raised IndexError: no axis"


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (2, 2)])
def test_arrays_go_to_torch_and_back(dtype: str, shape: tuple[int, ...]) -> None:
    values = (1.0, -0.0, float("inf"), -2.5)[: torch.Size(shape).numel()]
    array = Tensor(dtype, shape, values)
    assert from_torch(to_torch(array)) == array
    assert str(to_torch(array).dtype) == f"torch.{dtype}"
