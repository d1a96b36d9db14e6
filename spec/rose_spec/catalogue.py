"""The catalogue of known deviations, and variants of the oracle that have some of them."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from rose_spec.deviations.decay import DECAY
from rose_spec.deviations.deviation import Deviation, known_as
from rose_spec.deviations.gate import GATE
from rose_spec.deviations.slices import SLICES
from rose_spec.deviations.step import STEP
from rose_spec.deviations.storage import STORAGE
from rose_spec.noise import noise_words
from rose_spec.oracle import Rule, Tensor
from rose_spec.replies import Answer, Exchange, Failed, NoiseRequest, Refused, Reply, StepRequest, Words
from rose_spec.revision_1_0_0 import Rule100, ScalarsBySoftsign, VectorsDamped
from rose_spec.trajectory import Group, Trajectory, Turn
from rose_spec.validation import reason_to_refuse
from rose_spec.vectors import number_to_json, options_from_json

__all__ = ["CATALOGUE", "SUCCESSOR", "Deviation", "Stopped", "Variant", "VariantPort", "deviation_named"]

REVISION: Final = (
    known_as("1.0.0-scalars", "single elements move by the softsign of revision 1.0.0", "ROSE-6.2", ScalarsBySoftsign),
    known_as("1.0.0-vectors", "vectors and columns have the damped range of revision 1.0.0", "ROSE-4.3", VectorsDamped),
    known_as("1.0.0", "it is revision 1.0.0", "ROSE-4.3", Rule100),
)
DEFAULTS: Final = tuple(
    Deviation(f"default-{name}", f"the default of {option} is {shown}", "ROSE-10.1", defaults={option: value})
    for name, option, value, shown in (
        ("no-decay", "weight_decay", None, "0"),
        ("decay-0.01", "weight_decay", number_to_json(1e-2), "0.01"),
        ("not-centralized", "centralize", False, "false"),
        ("no-gate", "stabilize", False, "false"),
        ("fp32", "compute_dtype", "fp32", "fp32"),
        ("own-dtype", "compute_dtype", None, "none"),
    )
)
LENIENT: Final = (Deviation("nothing-refused", "what must be refused is answered", "ROSE-11.1", lenient=True),)

CATALOGUE: Final[tuple[Deviation, ...]] = (*DECAY, *SLICES, *GATE, *STEP, *STORAGE, *REVISION, *DEFAULTS, *LENIENT)
# What a port may be that is put to the vectors of revision 1.0.0.
SUCCESSOR: Final = Deviation("1.0.2", "its answers are those of revision 1.0.2", "ROSE-A.1")


class Stopped(Exception):  # noqa: N818  (the end of a trajectory, no error)
    """A trajectory ends before its last step, for want of an answer."""


def deviation_named(name: str) -> Deviation:
    """Return a deviation of the catalogue."""
    return next(deviation for deviation in CATALOGUE if deviation.name == name)


class Variant:
    """The oracle with deviations.

    Parameters
    ----------
    deviations : sequence of Deviation
        In whatever order: that of the catalogue says which one exchanges a method that two of them exchange.
    """

    def __init__(self, deviations: Sequence[Deviation]) -> None:
        order = (*CATALOGUE, SUCCESSOR)
        self.deviations = tuple(sorted(deviations, key=order.index))
        self.rule = _combined(Rule, [deviation.rule for deviation in self.deviations])
        self.group = _combined(Group, [deviation.group for deviation in self.deviations])
        self.lenient = any(deviation.lenient for deviation in self.deviations)
        self.defaults: dict[str, Any] = {}
        for deviation in reversed(self.deviations):
            self.defaults |= deviation.defaults

    def step(self, request: StepRequest) -> Reply:
        """Return the answer to a step."""
        options = options_from_json({**self.defaults, **request.options})
        reason = reason_to_refuse(options, request.param, request.grad, request.noise)
        if reason is not None:
            return Answer(request.param) if self.lenient else Refused(reason)
        try:
            step = self.rule(options).update(request.param, request.grad, request.noise)
        except (ArithmeticError, ValueError) as error:
            return Failed(str(error))
        named = {"mean": step.mean, "range": step.range, "denominator": step.denominator}
        return Answer(step.param, {name: values for name, values in named.items() if values is not None})

    def course(self, value: Mapping[str, Any]) -> Trajectory:
        """Return a trajectory as the variant takes it."""
        groups = [{**group, "options": {**self.defaults, **group["options"]}} for group in value["groups"]]
        kind = type("Course", (Trajectory,), {"group_type": self.group})
        course: Trajectory = kind({**value, "groups": groups})
        return course


class VariantPort:
    """A variant as a port, which takes whole trajectories by itself."""

    def __init__(self, deviations: Sequence[Deviation]) -> None:
        self.variant = Variant(deviations)
        self.name = " and ".join(deviation.name for deviation in deviations)

    def step(self, request: StepRequest) -> Reply:
        """Answer a step."""
        return self.variant.step(request)

    def noise(self, request: NoiseRequest) -> Reply:
        """Answer a question for noise."""
        return Words(noise_words(request.count, seed=request.seed, step=request.step, index=request.index))

    def trajectory(self, name: str, value: Mapping[str, Any]) -> tuple[list[Exchange], list[list[Tensor]] | Reply]:
        """Take all steps; log what should have been asked at each."""
        exchanges: list[Exchange] = []
        asked: list[StepRequest] = []
        replies: list[Reply] = []
        course = self.variant.course(value)

        def update(turn: Turn) -> Tensor:
            request = StepRequest(f"{name}/{len(replies)}", turn.param, turn.grad, turn.options, turn.noise)
            reply = self.variant.step(request)
            asked.append(request)
            replies.append(reply)
            if not isinstance(reply, Answer) or reply.param.shape != turn.param.shape:
                raise Stopped
            return reply.param

        try:
            result: list[list[Tensor]] | Reply = course.play(update)
        except Stopped:
            result = replies[-1]
        told = iter(zip(asked, replies, strict=True))

        def tell(turn: Turn) -> Tensor:
            request, reply = next(told, (None, None))
            if request is None or reply is None:
                raise Stopped
            right = StepRequest(request.id, request.param, turn.grad, turn.options, turn.noise)
            exchanges.append(Exchange(right, reply))
            if not isinstance(reply, Answer):
                raise Stopped
            return reply.param

        with suppress(Stopped):
            Trajectory(value).play(tell)
        return exchanges, result

    def close(self) -> None:
        """Do nothing."""


def _combined(base: type[Any], parts: Sequence[type[Any]]) -> type[Any]:
    """Return a class with the parts that are more than the base, those that extend others first."""
    own = [part for part in parts if part is not base]
    kept = [part for part in own if not any(part is not other and issubclass(other, part) for other in own)]
    return type("Variant", tuple(dict.fromkeys(kept)), {}) if kept else base
