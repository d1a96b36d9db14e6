"""AdEMAMix and its simplified form, with the schedules of their decay rates."""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from rose_core.namespace import Array
from rose_core.peers.arithmetic import divide, moving_average, root
from rose_core.peers.base import At, Rule
from rose_core.peers.elementwise.adam import AdamState
from rose_core.peers.options import boolean, fraction, integer, number, optional
from rose_core.peers.scalars import power, real_logarithm, real_power

__all__ = ["AdEMAMix", "AdEMAMixState", "SimplifiedAdEMAMix", "half_life_warmup"]

# Added to a decay rate before its half-life is computed, as in emerging_optimizers. The rate 0 has a half-life then.
_MARGIN: Final = 1e-8


class AdEMAMixState(NamedTuple):
    """A fast and a slow moving average of the gradient, and an average of its square."""

    exp_avg_fast: Any
    exp_avg_slow: Any
    exp_avg_sq: Any


@dataclass(frozen=True, kw_only=True)
class AdEMAMix(Rule):
    """AdEMAMix (Pagliardini, Ablin and Grangier, "The AdEMAMix optimizer: better, faster, older", ICLR 2025).

    Parameters
    ----------
    betas : tuple of three floats
        Decay rates of the fast average, of the average of the square, and of the slow average, in [0, 1).
    eps : float
        Added to the root, >= 0.
    alpha : float
        Weight of the slow average, >= 0. With 0 the rule is Adam. The paper has 5.
    correct_bias : bool
        Whether to divide the fast average and the average of the square by ``1 - beta**step``.
    num_beta_slow_warmup_steps, num_alpha_warmup_steps : int or None
        Numbers of steps in which the slow decay rate rises from the fast one, linearly in the half-life, and in which
        `alpha` rises linearly from 0. None: no warmup.
    state_dtype, compute_dtype
        As in `rose_core.peers.Rule`.

    Notes
    -----
    With the gradient g at step t::

        m1 <- b1 m1 + (1 - b1) g
        m2 <- b3 m2 + (1 - b3) g
        v  <- b2 v + (1 - b2) g^2
        direction = (m1 / (1 - b1^t) + alpha m2) / (sqrt(v / (1 - b2^t)) + eps)

    Examples
    --------
    >>> import numpy as np
    >>> rule, weight, grad = AdEMAMix(betas=(0.9, 0.999, 0.5), eps=0.0), np.zeros(2), np.asarray([3.0, -0.1])
    >>> rule.update(grad, rule.init(weight), weight, step=1)[0].round(6).tolist()
    [2.0, -2.0]
    """

    betas: tuple[float, float, float] = fraction((0.9, 0.999, 0.9999))
    eps: float = number(1e-8, least=0.0)
    alpha: float = number(2.0, least=0.0)
    correct_bias: bool = boolean(True)
    num_beta_slow_warmup_steps: int | None = optional(integer(1, least=1))
    num_alpha_warmup_steps: int | None = optional(integer(1, least=1))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_beta_slow_warmup_steps is not None:
            _check_half_lives({"betas[0]": self.betas[0], "betas[2]": self.betas[2]})

    def init_state(self, param: Array) -> AdEMAMixState:
        return AdEMAMixState(self.zeros(param), self.zeros(param), self.zeros(param))

    def compute(self, g: Any, state: AdEMAMixState, x: Any, at: At) -> tuple[Any, AdEMAMixState]:  # noqa: ARG002
        beta1, beta2, beta_slow = self.betas
        beta3 = half_life_warmup(beta1, beta_slow, at.step, self.num_beta_slow_warmup_steps)
        alpha = self.alpha * min(1.0, at.step / (self.num_alpha_warmup_steps or 1))
        correction1, correction2 = (1.0 - power(beta, at.step) if self.correct_bias else 1.0 for beta in (beta1, beta2))
        fast = moving_average(state.exp_avg_fast, g, beta1)
        slow = moving_average(state.exp_avg_slow, g, beta3)
        v = moving_average(state.exp_avg_sq, g * g, beta2)
        numerator = divide(fast, correction1) + alpha * slow
        return numerator / (root(divide(v, correction2)) + self.eps), AdEMAMixState(fast, slow, v)


@dataclass(frozen=True, kw_only=True)
class SimplifiedAdEMAMix(Rule):
    """Simplified AdEMAMix (Morwani et al., "Connections between Schedule-Free SGD, accelerated SGD variants...", 2025).

    Parameters
    ----------
    betas : tuple of two floats
        Decay rates of the accumulated gradient and of the average of its square, in [0, 1).
    eps : float
        Added to the root, >= 0.
    alpha : float
        Weight of the gradient itself, >= 0.
    correct_bias : bool
        Whether the accumulated gradient is multiplied by ``(1 - b1) / (1 - b1**step)``, and the average of the square
        divided by ``1 - b2**step``. In a warmup, b1 is the decay rate of this step, as in emerging_optimizers.
    num_beta_fast_warmup_steps : int or None
        Number of steps in which the decay rate of the gradient rises from `min_beta_fast`, linearly in the half-life.
    min_beta_fast : float
        The decay rate that the warmup starts from, in [0, 1).
    state_dtype, compute_dtype
        As in `rose_core.peers.Rule`.

    Notes
    -----
    With the gradient g at step t::

        m <- b1 m + g
        v <- b2 v + (1 - b2) g^2
        direction = (alpha g + m (1 - b1) / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    Examples
    --------
    >>> import numpy as np
    >>> rule, weight, grad = SimplifiedAdEMAMix(eps=0.0), np.zeros(2), np.asarray([3.0, -0.1])
    >>> rule.update(grad, rule.init(weight), weight, step=1)[0].round(6).tolist()
    [3.0, -3.0]
    """

    betas: tuple[float, float] = fraction((0.9999, 0.999))
    eps: float = number(1e-8, least=0.0)
    alpha: float = number(2.0, least=0.0)
    correct_bias: bool = boolean(True)
    num_beta_fast_warmup_steps: int | None = optional(integer(1, least=1))
    min_beta_fast: float = fraction(0.9)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_beta_fast_warmup_steps is not None:
            _check_half_lives({"min_beta_fast": self.min_beta_fast, "betas[0]": self.betas[0]})

    def init_state(self, param: Array) -> AdamState:
        return AdamState(self.zeros(param), self.zeros(param))

    def compute(self, g: Any, state: AdamState, x: Any, at: At) -> tuple[Any, AdamState]:  # noqa: ARG002
        beta1 = half_life_warmup(self.min_beta_fast, self.betas[0], at.step, self.num_beta_fast_warmup_steps)
        beta2 = self.betas[1]
        m = beta1 * state.exp_avg + g
        v = moving_average(state.exp_avg_sq, g * g, beta2)
        m_hat, v_hat = m, v
        if self.correct_bias:
            m_hat = m * ((1.0 - beta1) / (1.0 - power(beta1, at.step)))
            v_hat = divide(v, 1.0 - power(beta2, at.step))
        return (self.alpha * g + m_hat) / (root(v_hat) + self.eps), AdamState(m, v)


def half_life_warmup(first: float, last: float, step: int, steps: int | None) -> float:
    """Return the decay rate of a step, whose half-life rises linearly within `steps` steps; `last` from then on."""
    if steps is None or step >= steps:
        return last
    share = step / steps
    half_life = (1.0 - share) * _half_life(first) + share * _half_life(last)
    return real_power(0.5, 1.0 / (half_life + 1.0))


def _half_life(beta: float) -> float:
    return real_logarithm(0.5) / real_logarithm(beta + _MARGIN) - 1.0


def _check_half_lives(betas: dict[str, float]) -> None:
    for name, beta in betas.items():
        if beta + _MARGIN >= 1.0:
            raise ValueError(f"{name} must be less than 1 - {_MARGIN} in a warmup of the half-life, got {beta!r}")
