"""rose_numpy through the kit: single steps, refusals, and whole trajectories with their schedules and noise."""

import warnings
from collections.abc import Mapping
from typing import Any

import pytest

from rose_numpy import Rose
from rose_spec.arrays import from_array, to_array
from rose_spec.check import check
from rose_spec.oracle import Tensor
from rose_spec.ports.port import plain_options
from rose_spec.replies import Answer, Exchange, NoiseRequest, Refused, Reply, StepRequest, Unsupported
from rose_spec.vectors import load_vectors, number_from_json, tensor_from_json

NO_WORDS = "the optimizer draws noise by itself"


class RoseOfNumpy:
    """The optimizer as a port. It runs whole trajectories, since it resolves schedules and noise by itself."""

    name = "rose_numpy:Rose"

    def step(self, request: StepRequest) -> Reply:
        if request.noise is not None:
            return Unsupported(NO_WORDS)
        options = plain_options(request.options)
        reference = options.pop("lr_reference", None)
        param = to_array(request.param)
        try:
            schedule = {} if reference is None else {"wd_schedule": reference}
            Rose([param], bf16_sr=False, **schedule, **options).step([to_array(request.grad)])
        except (TypeError, ValueError) as error:
            return Refused(str(error))
        return Answer(from_array(param))

    def trajectory(self, name: str, value: Mapping[str, Any]) -> tuple[list[Exchange], list[list[Tensor]]]:  # noqa: ARG002
        rates = [[number_from_json(lr) for lr in step["lr"]] for step in value["steps"]]
        optimizer = Rose([group_of(group) for group in value["groups"]], lr=rates[0][0])
        for lrs, step in zip(rates, value["steps"], strict=True):
            for group, lr in zip(optimizer.param_groups, lrs, strict=True):
                group["lr"] = lr
            grads = [[g and to_array(tensor_from_json(g)) for g in of_group] for of_group in step["grads"]]
            optimizer.step(grads)
        return [], [[from_array(param) for param in group["params"]] for group in optimizer.param_groups]

    def noise(self, request: NoiseRequest) -> Reply:  # noqa: ARG002
        return Unsupported(NO_WORDS)

    def option_name(self, option: str) -> str:
        return "wd_schedule" if option == "lr_reference" else option

    def close(self) -> None:
        """Do nothing."""


def group_of(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a group of a trajectory as a group of the optimizer."""
    options = plain_options(value["options"])
    if isinstance(options.get("wd_schedule"), str):
        options["wd_schedule"] = number_from_json(options["wd_schedule"])
    if "sr_seed" in options:
        options["sr_seed"] = int(options["sr_seed"], 16)
    schedule = {key: number_from_json(value[key]) for key in ("initial_lr", "max_lr") if key in value}
    return {"params": [to_array(tensor_from_json(param)) for param in value["params"]], **options, **schedule}


VECTORS = [vector for vector in load_vectors() if vector.kind in ("step", "refusal", "trajectory")]


@pytest.mark.parametrize("kind", ["step", "refusal", "trajectory"])
def test_rose_numpy_conforms_exactly(kind: str) -> None:
    vectors = [vector for vector in VECTORS if vector.kind == kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # vectors with slices of one element warn
        outcomes = list(check(RoseOfNumpy(), vectors))
    wrong = [(o.vector.id, o.detail) for o in outcomes if o.status not in ("passed", "unsupported")]
    assert wrong == []
    unsupported = {o.vector.id for o in outcomes if o.status == "unsupported"}
    assert unsupported == {vector.id for vector in vectors if "noise" in vector.input}
    assert len(unsupported) < 0.4 * len(vectors)
