"""What a port is asked, and what it can answer."""

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
    """One step of one parameter.

    Attributes
    ----------
    id : str
        Different for every request of a run.
    param, grad : Tensor
        The arrays, as the port has them.
    options : mapping
        The options given, as JSON has them; one that is left out has its default.
    noise : list of int or None
        The 16-bit words of stochastic rounding, None to round to nearest.
    """

    id: str
    param: Tensor
    grad: Tensor
    options: Mapping[str, Any]
    noise: list[int] | None = None

    @classmethod
    def of(cls, vector: Vector) -> "StepRequest":
        """Return the request of a step or a refusal."""
        value = vector.input
        noise = [int(word, 16) for word in value["noise"]] if "noise" in value else None
        param, grad = tensor_from_json(value["param"]), tensor_from_json(value["grad"])
        return cls(vector.id, param, grad, value["options"], noise)


@dataclass(frozen=True)
class NoiseRequest:
    """The first words of a parameter's portable noise (ROSE-9)."""

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
        As the port gave it, whatever its dtype and shape.
    intermediates : mapping
        Those of "mean", "range", "trust" and "denominator" that the port gave.
    noise : list of int or None
        The words the port drew itself, where it cannot take those of the request.
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
    """The port says that what it was asked is not allowed."""

    reason: str


@dataclass(frozen=True)
class Unsupported:
    """The port has no such thing: no such option, no portable noise.

    Attributes
    ----------
    reason : str
        What it lacks, for people.
    options : tuple of str
        The options it lacks, where it is that.
    """

    reason: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failed:
    """There is no answer: the port raised something else, died, or kept silent."""

    reason: str


Request: TypeAlias = StepRequest | NoiseRequest
Reply: TypeAlias = Answer | Words | Refused | Unsupported | Failed


@dataclass(frozen=True)
class Exchange:
    """A request with its reply; the request holds the noise that was used."""

    request: Request
    reply: Reply
