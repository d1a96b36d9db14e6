"""The requests to a port, and its possible replies."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from rose_spec.oracle import Tensor
from rose_spec.vectors import Vector, tensor_from_json

__all__ = [
    "Answer",
    "Exchange",
    "Failed",
    "NoiseRequest",
    "Refused",
    "Reply",
    "Request",
    "StepRequest",
    "Unsupported",
    "Words",
]


@dataclass(frozen=True)
class StepRequest:
    """A request for one step of one parameter.

    Attributes
    ----------
    id : str
        Unique among the requests of a run.
    param, grad : Tensor
        The parameter and the gradient that the port receives.
    options : mapping
        The options in the form of JSON. An option that is left out has its default.
    noise : list of int or None
        The 16-bit words for stochastic rounding, or None to round to nearest.
    """

    id: str
    param: Tensor
    grad: Tensor
    options: Mapping[str, Any]
    noise: list[int] | None = None

    @classmethod
    def of(cls, vector: Vector) -> "StepRequest":
        """Return the request of a "step" or "refusal" vector."""
        value = vector.input
        noise = [int(word, 16) for word in value["noise"]] if "noise" in value else None
        param, grad = tensor_from_json(value["param"]), tensor_from_json(value["grad"])
        return cls(vector.id, param, grad, value["options"], noise)


@dataclass(frozen=True)
class NoiseRequest:
    """A request for the first words of a parameter's portable noise (ROSE-9)."""

    id: str
    count: int
    seed: int
    step: int
    index: int


@dataclass(frozen=True)
class Answer:
    """The parameter after the step.

    Attributes
    ----------
    param : Tensor
        The parameter with the dtype and the shape that the port returned.
    intermediates : mapping
        The values of "mean", "range", "trust" and "denominator", if the port returned them.
    noise : list of int or None
        The words that the port drew, if it cannot use the words of the request.
    """

    param: Tensor
    intermediates: Mapping[str, list[float]] = field(default_factory=dict)
    noise: list[int] | None = None


@dataclass(frozen=True)
class Words:
    """The words of noise."""

    words: list[int]


@dataclass(frozen=True)
class Refused:
    """The port refuses the request as not allowed."""

    reason: str


@dataclass(frozen=True)
class Unsupported:
    """The port lacks a feature that the request needs, for example an option or portable noise.

    Attributes
    ----------
    reason : str
        The missing feature, in words.
    options : tuple of str
        The missing options, if the feature is an option.
    """

    reason: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failed:
    """No answer: the port raised another error, ended, or did not reply in time."""

    reason: str


Request: TypeAlias = StepRequest | NoiseRequest
Reply: TypeAlias = Answer | Words | Refused | Unsupported | Failed


@dataclass(frozen=True)
class Exchange:
    """A request and its reply; the request has the noise that was used."""

    request: Request
    reply: Reply
