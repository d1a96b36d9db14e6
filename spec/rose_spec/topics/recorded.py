"""Gradients of a real network, recorded once by `spec/record_digits.py`."""

import json
from importlib.resources import files
from typing import Any

from rose_spec.floats import BFLOAT16, cast
from rose_spec.oracle import Tensor
from rose_spec.topics.topic import Topic, group
from rose_spec.vectors import tensor_from_json

__all__ = ["build"]


def build() -> Topic:
    """Return the topic."""
    topic = Topic("recorded", "Gradients of a network that learns handwritten digits, and its parameters")
    content = json.loads((files("rose_spec") / "vectors" / "recorded_digits.json").read_text())
    initial = {name: tensor_from_json(value) for name, value in content["initial"].items()}
    gradients = [{name: tensor_from_json(value) for name, value in step.items()} for step in content["gradients"]]
    _add_steps(topic, initial, gradients)
    _add_trajectories(topic, initial, gradients)
    return topic


def _add_steps(topic: Topic, initial: dict[str, Tensor], gradients: list[dict[str, Tensor]]) -> None:
    """Add single steps with their intermediate values."""
    for name, param in initial.items():
        clauses = "4.2 5.2 5.4 6.1" if len(param.shape) == 2 else "4.3 6.1"
        options: dict[str, Any] = {"lr": 0.005, "weight_decay": 0.01, "show": True}
        topic.step(f"{name}-1", clauses, param, gradients[0][name], **options)
        if name != "hidden-weight":
            for number, gradient in enumerate(gradients[1:], 2):
                topic.step(f"{name}-{number}", clauses, param, gradient[name], **options)
            topic.step(f"{name}-fp32", clauses, param, gradients[0][name], **options, compute_dtype="fp32")


def _add_trajectories(topic: Topic, initial: dict[str, Tensor], gradients: list[dict[str, Tensor]]) -> None:
    """Train the whole network in float32, and the output layer in bfloat16 with portable noise."""
    rates = (0.0025, 0.005, 0.0025)
    steps = [((lr,), [list(step.values())]) for lr, step in zip(rates, gradients, strict=True)]
    settings = group(*initial.values(), lr=rates[0], weight_decay=0.01, wd_schedule=0.005)
    topic.trajectory("training", "3.4 6.1", [settings], steps)
    names = [name for name in initial if name.startswith("output")]
    settings = group(*(_narrowed(initial[name]) for name in names), lr=rates[0])
    steps = [((lr,), [[step[name] for name in names]]) for lr, step in zip(rates, gradients, strict=True)]
    topic.trajectory("training-in-bfloat16", "8.1 9.2", [settings], steps)


def _narrowed(param: Tensor) -> Tensor:
    return Tensor("bfloat16", param.shape, tuple(cast(value, BFLOAT16) for value in param.values))
