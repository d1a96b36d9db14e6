"""The base class of wrappers: by default they do what their rule does."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, NamedTuple

from rose_core.namespace import Array
from rose_core.peers.base import At, Rule, StateNoise, Total

__all__ = ["Wrapper", "WrapperState", "rules_within"]


class WrapperState(NamedTuple):
    """The state of the rule."""

    rule: Any


@dataclass(frozen=True, kw_only=True)
class Wrapper(Rule):
    """A rule that takes another one, `rule`. Its compute dtype is that of `rule`."""

    rule: Rule = field(kw_only=False)
    state_dtype: None = field(default=None, init=False, repr=False)
    compute_dtype: Literal["fp64", "fp32"] = field(init=False, repr=False)

    takes_own_steps: ClassVar[bool] = False
    """Whether the wrapper calls `advance` of its rule. The others call `compute` only."""

    def __post_init__(self) -> None:
        if not isinstance(self.rule, Rule):
            raise TypeError(f"rule must be a rule of rose_core.peers, as Adam() is, got {self.rule!r}")
        if self.rule.has_own_step and not self.takes_own_steps:
            raise ValueError(
                f"{type(self).__name__} takes only the direction of its rule, and a step of {self.rule!r} is more than "
                "that; only SpikeGuard and Partition may hold such a rule"
            )
        object.__setattr__(self, "compute_dtype", self.rule.compute_dtype)
        super().__post_init__()

    @property
    def default_weight_decay(self) -> float:  # type: ignore[override]
        """The weight decay of an optimizer that is given none."""
        return self.rule.default_weight_decay

    @property
    def is_elementwise(self) -> bool:
        return self.rule.is_elementwise

    @property
    def reads_total(self) -> bool:
        return self.rule.reads_total

    @property
    def has_own_step(self) -> bool:
        return self.rule.has_own_step

    def for_shape(self, shape: tuple[int, ...]) -> Rule:
        inner = self.rule.for_shape(shape)
        return self if inner is self.rule else replace(self, rule=inner)

    def check_param(self, param: Array, name: str) -> None:
        self.rule.check_param(param, name)

    def init_state(self, param: Array) -> Any:
        return WrapperState(self.rule.init_state(param))

    def summand(self, g: Any, state: Any, x: Any, at: At) -> Total | None:
        return self.rule.summand(g, state.rule, x, at)

    def evaluated(self, param: Array, state: Any) -> Any:
        return self.rule.evaluated(param, state.rule)

    def with_hessian(self, hessian: Array, state: Any, noise: StateNoise | None) -> Any:
        return state._replace(rule=self.rule.with_hessian(hessian, state.rule, noise))


def rules_within(rule: Rule) -> Iterator[Rule]:
    """Yield a rule, and all rules within it."""
    yield rule
    for option in vars(rule).values():
        if isinstance(option, Rule):
            yield from rules_within(option)
