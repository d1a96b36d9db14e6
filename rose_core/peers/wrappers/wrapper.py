"""The base class of wrappers: by default they do what their rule does."""

from dataclasses import dataclass, field, replace
from typing import Any

from rose_core.namespace import Array
from rose_core.peers.base import At, Rule, Total

__all__ = ["Wrapper"]


@dataclass(frozen=True, kw_only=True)
class Wrapper(Rule):
    """A rule that takes another one, `rule`.

    The compute dtype is that of `rule`. `state_dtype` is the dtype of the wrapper's own arrays.
    """

    rule: Rule = field(kw_only=False)

    def __post_init__(self) -> None:
        if not isinstance(self.rule, Rule):
            raise TypeError(f"rule must be a rule of rose_core.peers, as Adam() is, got {self.rule!r}")
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

    def for_shape(self, shape: tuple[int, ...]) -> Rule:
        inner = self.rule.for_shape(shape)
        return self if inner is self.rule else replace(self, rule=inner)

    def check_param(self, param: Array, name: str) -> None:
        self.rule.check_param(param, name)

    def summand(self, g: Any, state: Any, x: Any, at: At) -> Total | None:
        return self.rule.summand(g, state.rule, x, at)

    def update_hessian(self, hessian: Array, state: Any, /, **options: Any) -> Any:
        """Return the state after an estimate of the Hessian's diagonal, if the rule takes one."""
        return state._replace(rule=self.rule.update_hessian(hessian, state.rule, **options))
