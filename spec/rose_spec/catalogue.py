"""The catalogue of known deviations, and variants of the oracle with chosen deviations."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Final

from rose_spec.deviations.decay import DECAY
from rose_spec.deviations.deviation import Deviation, known_as
from rose_spec.deviations.gate import GATE
from rose_spec.deviations.slices import SLICES
from rose_spec.deviations.step import STEP
from rose_spec.deviations.storage import STORAGE
from rose_spec.deviations.sums import SUMS
from rose_spec.deviations.words import WORDS
from rose_spec.noise import noise_words
from rose_spec.oracle import Rule, Tensor
from rose_spec.replies import Answer, Exchange, Failed, NoiseRequest, Refused, Reply, StepRequest, Unsupported, Words
from rose_spec.revision_1_0_0 import Rule100, ScalarsBySoftsign, VectorsDamped
from rose_spec.trajectory import Group, ParamStep, Trajectory
from rose_spec.validation import reason_to_refuse
from rose_spec.vectors import number_to_json, options_from_json

__all__ = ["CATALOGUE", "SUCCESSOR", "Deviation", "Stopped", "Variant", "VariantPort", "deviation_named", "overridden"]

REVISION: Final = (
    known_as("1.0.0-scalars", "single elements move by the softsign of revision 1.0.0", "ROSE-6.2", ScalarsBySoftsign),
    known_as("1.0.0-vectors", "vectors and columns use the damped range of revision 1.0.0", "ROSE-4.3", VectorsDamped),
    known_as("1.0.0", "the port implements revision 1.0.0", "ROSE-4.3", Rule100),
)
DEFAULTS: Final = tuple(
    Deviation(f"default-{name}", f"the default of {option} is {shown}", "ROSE-10.1", defaults={option: value})
    for name, option, value, shown in (
        ("lr-0.001", "lr", number_to_json(1e-3), "0.001"),
        ("no-decay", "weight_decay", None, "0"),
        ("decay-0.01", "weight_decay", number_to_json(1e-2), "0.01"),
        ("not-centralized", "centralize", False, "false"),
        ("no-gate", "stabilize", False, "false"),
        ("fp32", "compute_dtype", "fp32", "fp32"),
        ("own-dtype", "compute_dtype", None, "none"),
    )
)
LENIENT: Final = (Deviation("nothing-refused", "steps that must be refused are answered", "ROSE-11.1", lenient=True),)

# Methods that every step calls many times. Their calls are not recorded.
ALWAYS_CALLED: Final = frozenset({"advance_element", "load", "quotient", "rc", "to_compute", "to_operation"})

CATALOGUE: Final[tuple[Deviation, ...]] = (
    *(*DECAY, *SLICES, *SUMS, *GATE, *STEP, *STORAGE, *WORDS),
    *(*REVISION, *DEFAULTS, *LENIENT),
)
# The deviation that is tried if a port fails the vectors of revision 1.0.0.
SUCCESSOR: Final = Deviation("1.0.2", "the port implements revision 1.0.2", "ROSE-A.1")


class Stopped(Exception):  # noqa: N818  (no error)
    """Ends a trajectory at a step without an answer."""


def deviation_named(name: str) -> Deviation:
    """Return the deviation with a name."""
    return next(deviation for deviation in CATALOGUE if deviation.name == name)


class Variant:
    """The oracle with deviations.

    Parameters
    ----------
    deviations : sequence of Deviation
        The deviations, in any order. If two of them override the same method, the first in the catalogue wins.
    has_own_noise : bool
        Whether the steps of trajectories use the noise of the variant. If not, the kit gives it to the port.
    """

    def __init__(self, deviations: Sequence[Deviation], *, has_own_noise: bool = False) -> None:
        order = (*CATALOGUE, SUCCESSOR)
        self.deviations = tuple(sorted(deviations, key=order.index))
        self.rule = _combined(Rule, tuple(deviation.rule for deviation in self.deviations))
        self.called: set[str] = set()
        """The methods of the rule that were called, among those that a deviation overrides."""
        self.group = _combined(Group, tuple(deviation.group for deviation in self.deviations))
        words = [deviation.noise for deviation in self.deviations if deviation.noise is not None]
        self.noise_words = words[0] if words else noise_words
        if has_own_noise and words:
            self.group = type("VariantGroup", (self.group,), {"words": staticmethod(words[0])})
        self.lenient = any(deviation.lenient for deviation in self.deviations)
        self.defaults: dict[str, Any] = {}
        for deviation in reversed(self.deviations):
            self.defaults |= deviation.defaults

    def step(self, request: StepRequest) -> Reply:
        """Return the reply to a step."""
        options = options_from_json({**self.defaults, **request.options})
        reason = reason_to_refuse(options, request.param, request.grad, request.noise)
        if reason is not None:
            return Answer(request.param) if self.lenient else Refused(reason)
        try:
            rule = _traced(self.rule)(options)  # type: ignore[arg-type]
            rule.called = self.called  # type: ignore[attr-defined]
            self.called |= ALWAYS_CALLED
            step = rule.update(request.param, request.grad, request.noise)
        except (ArithmeticError, ValueError) as error:
            return Failed(str(error))
        named = {"mean": step.mean, "range": step.range, "denominator": step.denominator}
        return Answer(step.param, {name: values for name, values in named.items() if values is not None})

    def noise(self, request: NoiseRequest) -> Words:
        """Return the reply to a request for noise."""
        return Words(self.noise_words(request.count, seed=request.seed, step=request.step, index=request.index))

    def trajectory(self, value: Mapping[str, Any]) -> Trajectory:
        """Return a trajectory with the defaults and the group state of the variant."""
        groups = [{**group, "options": {**self.defaults, **group["options"]}} for group in value["groups"]]
        kind = type("VariantTrajectory", (Trajectory,), {"group_type": self.group})
        trajectory: Trajectory = kind({**value, "groups": groups})
        return trajectory


class VariantPort:
    """A variant as a port; it runs whole trajectories by itself, and may do so with noise that it does not return."""

    def __init__(self, deviations: Sequence[Deviation], *, has_own_noise: bool = False) -> None:
        self.variant, self.has_own_noise = Variant(deviations, has_own_noise=has_own_noise), has_own_noise
        self.name = " and ".join(deviation.name for deviation in deviations)

    def step(self, request: StepRequest) -> Reply:
        """Reply to a step."""
        return self.variant.step(request)

    def noise(self, request: NoiseRequest) -> Reply:
        """Reply with portable noise."""
        return Unsupported("no interface") if self.has_own_noise else self.variant.noise(request)

    def trajectory(self, name: str, value: Mapping[str, Any]) -> tuple[list[Exchange], list[list[Tensor]] | Reply]:
        """Run a trajectory, and return its exchanges and its last parameters or the reply that ended it."""
        replies: list[Reply] = []

        def update(step: ParamStep) -> Tensor:
            reply = self.variant.step(step.request(f"{name}/{len(replies)}"))
            replies.append(reply)
            if not isinstance(reply, Answer) or reply.param.shape != step.param.shape:
                raise Stopped
            return reply.param

        try:
            result: list[list[Tensor]] | Reply = self.variant.trajectory(value).run(update)
        except Stopped:
            result = replies[-1]
        return _exchanges(name, value, replies), result

    def close(self) -> None:
        """Do nothing."""


def _exchanges(name: str, value: Mapping[str, Any], replies: Sequence[Reply]) -> list[Exchange]:
    """Return each reply with its request; the rule without deviations gives the options and the noise."""
    exchanges: list[Exchange] = []

    def update(step: ParamStep) -> Tensor:
        if len(exchanges) == len(replies):
            raise Stopped
        reply = replies[len(exchanges)]
        exchanges.append(Exchange(step.request(f"{name}/{len(exchanges)}"), reply))
        if not isinstance(reply, Answer):
            raise Stopped
        return reply.param

    with suppress(Stopped):
        Trajectory(value).run(update)
    return exchanges


@cache
def overridden(deviation: Deviation) -> frozenset[str]:
    """Return the names of the methods of the rule that a deviation overrides, without special methods."""
    classes = [part for part in deviation.rule.__mro__ if part not in Rule.__mro__]
    names = (name for part in classes for name in vars(part) if not name.startswith("_"))
    return frozenset(name for name in names if callable(getattr(Rule, name, None)))


@cache
def _traced(rule: Any) -> type[Rule]:
    """Return a rule that adds the names of its methods to its attribute `called`."""

    def traced(name: str) -> Any:
        def method(self: Any, *arguments: Any, **options: Any) -> Any:
            self.called.add(name)
            return getattr(super(kind, self), name)(*arguments, **options)

        return method

    names = frozenset[str]().union(*map(overridden, CATALOGUE)) - ALWAYS_CALLED
    kind: type[Rule] = type("Traced", (rule,), {name: traced(name) for name in sorted(names)})
    return kind


@cache
def _combined(base: type[Any], parts: tuple[type[Any], ...]) -> type[Any]:
    """Return a class that inherits from all parts that differ from the base."""
    changed = [part for part in parts if part is not base]
    # A part that another part extends is left out: the other part includes it.
    kept = [part for part in changed if not any(part is not other and issubclass(other, part) for other in changed)]
    return type("Variant", tuple(dict.fromkeys(kept)), {}) if kept else base
