"""The outcome of one vector: its status, the level reached, and the requests and replies behind it."""

from dataclasses import dataclass
from typing import Literal

from rose_spec.comparison import Level
from rose_spec.replies import Exchange, Reply
from rose_spec.vectors import Vector

__all__ = ["Outcome", "Status"]

Status = Literal["passed", "failed", "unsupported", "unanswered"]


@dataclass(frozen=True)
class Outcome:
    """The outcome of one vector.

    Attributes
    ----------
    vector : Vector
        The vector.
    status : str
        "passed" at the required level, "failed", "unsupported" or "unanswered". An unanswered vector is a failure.
    level : str or None
        The highest level reached. None if no level is reached, or if there is no answer to compare.
    reply : Reply or None
        The last reply, or the one that differs. None if nothing was asked.
    detail : str
        The difference in words, empty if there is none.
    exchanges : tuple of Exchange
        All requests, with the noise that was used, and their replies. For a digest, only those that differ.
    ulps : float
        The largest difference, in units in the last place; see `rose_spec.comparison.Comparison`.
    """

    vector: Vector
    status: Status
    level: Level | None = None
    reply: Reply | None = None
    detail: str = ""
    exchanges: tuple[Exchange, ...] = ()
    ulps: float = 0.0
