"""The base class of all rules: hyperparameters, states, one step of one parameter.

A rule has one formula, `compute`, over whole arrays in the operation dtype: float64, or float32 with
``compute_dtype="fp32"``. A number from Python is rounded to it once, by the operation that takes it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final, Literal, NamedTuple

from rose_core.hyperparameters import real_number, resolve_compute_dtype, unsigned
from rose_core.namespace import (
    Array,
    array_namespace,
    bfloat16_from_float32_bits,
    detached,
    dtype_name,
    floating_dtype,
    full,
    has_float64,
    quiet,
    require_array,
    require_like,
)
from rose_core.noise import NoiseKey, noise_in_range
from rose_core.peers.arithmetic import Total
from rose_core.peers.options import check_options, choice
from rose_core.peers.states import leaves, map_leaves, matched_leaves, rebuilt
from rose_core.rounding import ComputeDtype, to_compute, to_storage

__all__ = ["STATE_NOISE", "At", "Rule", "StateNoise", "Total", "round_states", "state_noise", "widen_states"]

# State number j of a parameter takes the noise words from (j + 1) * 2**48 on, and the parameter those from 0 on.
STATE_NOISE: Final = 2**48
StateNoise = Callable[[int, Any], Any]
"""Returns the noise words of the state with a number, given an array of its shape."""

# Rules that draw random numbers take their words from here on.
_DRAWN: Final = 2**62


class At(NamedTuple):
    """The numbers of one step of one parameter.

    Attributes
    ----------
    step : the number of this step, from 1 on.
    lr : the learning rate.
    compute : the compute dtype, "fp64" or "fp32".
    key : the key of the parameter's noise at this step.
    shape : the shape of the whole parameter. The arrays of an elementwise rule may be a part of it.
    total : `Rule.summand` of all parameters together, for rules that have one.
    """

    step: int
    lr: float
    compute: ComputeDtype
    key: NoiseKey
    shape: tuple[int, ...]
    total: Total | None = None

    def draw(self, count: int, like: Array, start: int = 0) -> Any:
        """Return random words in [0, 2**16), in int32. Two calls in one step take different starts, below 2**61."""
        return noise_in_range(self.key, _DRAWN + start, _DRAWN + start + count, like=like)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule of optimization: its hyperparameters, and the direction of a step as a function of arrays.

    Parameters
    ----------
    state_dtype : str or None
        Dtype of the state: "float32", "float64" or "bfloat16". None is float32 for parameters of 16 bits, and the
        parameter's own dtype for others. bfloat16 states are rounded stochastically.
    compute_dtype : str
        Dtype of the arithmetic: "fp64" or "fp32".

    Raises
    ------
    TypeError, ValueError
        If an option has a value that is not allowed; the message names it.
    """

    state_dtype: str | None = choice(None, "float32", "bfloat16", "float64")
    compute_dtype: Literal["fp64", "fp32"] = choice("fp64", "fp32")

    default_weight_decay: ClassVar[float] = 0.0
    """The weight decay of an optimizer that is given none."""

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def is_elementwise(self) -> bool:
        """Whether an element of the result depends only on the same element of each array, and on scalar states."""
        return True

    @property
    def reads_total(self) -> bool:
        """Whether the rule reads a norm over all parameters: see `summand`."""
        return False

    @property
    def has_own_step(self) -> bool:
        """Whether a step is more than ``param * decay - lr * direction``: see `advance`."""
        return False

    def init(self, param: Array, /) -> Any:
        """Return the state before the first step.

        Parameters
        ----------
        param : array of float64, float32, float16 or bfloat16
            The parameter.

        Returns
        -------
        named tuple of arrays
            The state, of the library and device of `param`. An unused field is None.

        Raises
        ------
        TypeError, ValueError
            If the rule cannot update such a parameter.
        """
        return self._rule_of(param, "param").init_state(param)

    @quiet
    def update(
        self,
        grad: Array,
        state: Any,
        param: Array,
        /,
        *,
        step: int,
        lr: float = 0.0,
        seed: int = 0,
        index: int = 0,
        bf16_sr: bool = True,
        total: Total | None = None,
    ) -> tuple[Any, Any]:
        """Return the direction of a step and the new state. The caller subtracts ``lr`` times the direction.

        Parameters
        ----------
        grad : array, the shape of `param`
            The gradient.
        state : named tuple of arrays
            The state that `init` or the previous step returned. It is not changed.
        param : array of float64, float32, float16 or bfloat16
            The parameter.
        step : int
            The number of this step, from 1 on.
        lr : float
            The learning rate, for rules that read it. Most do not.
        seed, index : int
            The seed of the noise, in [0, 2**64), and the index of the parameter, in [0, 2**32).
        bf16_sr : bool
            Whether bfloat16 states are rounded stochastically.
        total : Total or None
            For rules that read a norm over all parameters, such as `SpikeGuard`: the `Total` of all parameters. The
            optimizers compute it. None: `param` is the only one.

        Returns
        -------
        direction : array of float64, or of float32 with ``compute_dtype="fp32"``
            The direction, of the shape of `param`.
        state : named tuple of arrays
            The new state.

        Raises
        ------
        TypeError, ValueError
            If an argument is not allowed; the message names it.
        """
        require_array(param, "param")
        rule = self.for_shape(tuple(param.shape))
        compute = rule.checked_compute_dtype(param, grad)
        rule.check_state(state, param)
        number = unsigned("step", step, bits=32)
        if number == 0:
            raise ValueError("step must be an integer >= 1, got 0")
        key = _noise_key(seed, number - 1, index)
        rate = real_number("lr", lr, "a finite number")
        if not math.isfinite(rate):
            raise ValueError(f"lr must be a finite number, got {lr!r}")
        if not isinstance(total, Total | None):
            raise TypeError(f"total must be None or a Total, got {total!r}")
        at = At(number, rate, compute, key, tuple(param.shape), total)
        g, x = (to_compute(array, compute) for array in detached(grad, param))
        # A rule may return these arrays, and the caller may overwrite the originals.
        copied = partial(array_namespace(param).asarray, copy=True)
        g, state = copied(g), map_leaves(copied, state)
        if 0 in param.shape and not rule.is_elementwise:
            return array_namespace(x).zeros_like(x), state
        wide = widen_states(state, compute)
        if total is None and rule.reads_total:
            at = at._replace(total=rule.summand(g, wide, x, at))
        direction, new = rule.compute(g, wide, x, at)
        noise = partial(state_noise, key) if bf16_sr else None
        return array_namespace(param).asarray(direction), round_states(new, state, noise)

    def checked_compute_dtype(
        self, param: Array, grad: Array, names: tuple[str, str] = ("param", "grad")
    ) -> ComputeDtype:
        """Return the compute dtype of a step, or raise for arrays that the rule refuses. `names` has their names."""
        dtype = floating_dtype(param, names[0])
        floating_dtype(grad, names[1])
        require_like(param, grad, names)
        self.check_param(param, names[0])
        return resolve_compute_dtype(self.compute_dtype, param, dtype, stochastic=False)

    def _rule_of(self, array: Array, name: str) -> "Rule":
        """Return the rule of parameters of the shape of an array, or raise if it refuses the array, called `name`."""
        floating_dtype(array, name)
        rule = self.for_shape(tuple(array.shape))
        rule.check_param(array, name)
        return rule

    def check_state(self, state: Any, array: Array, array_name: str = "param", *, any_dtype: bool = False) -> None:
        """Raise unless a state has the structure, the shapes and the dtypes that `init_state` returns for an array."""
        for name, leaf, like in matched_leaves(state, self.init_state(array)):
            if (leaf is None) != (like is None):
                raise TypeError(f"{name} must be {'None' if like is None else 'an array'}, got {leaf!r}")
            if leaf is not None:
                dtype = floating_dtype(leaf, name)
                require_like(like, leaf, (f"the state that init returns for {array_name}", name))
                if dtype != dtype_name(like) and not any_dtype:
                    raise TypeError(f"{name} has dtype {dtype}; allowed is {dtype_name(like)}")

    @quiet
    def evaluation_param(self, param: Array, state: Any, /) -> Any:
        """Return the parameter to evaluate the model with: `param` itself, but another one for `ScheduleFree`.

        Parameters
        ----------
        param : array
            The parameter.
        state : named tuple of arrays
            Its state.

        Raises
        ------
        TypeError, ValueError
            If an argument is not allowed; the message names it.
        """
        rule = self._rule_of(param, "param")
        rule.check_state(state, param)
        return rule.evaluated(param, state)

    @quiet
    def update_hessian(
        self,
        hessian: Array,
        state: Any,
        /,
        *,
        step: int = 0,
        seed: int = 0,
        index: int = 0,
        bf16_sr: bool = True,
    ) -> Any:
        """Return the state after one more estimate of the Hessian's diagonal. Only `SophiaH` takes one.

        Parameters
        ----------
        hessian : array, the shape of the parameter
            The estimate.
        state : named tuple of arrays
            The state, which is not changed.
        step : int
            The number of steps before, in [0, 2**32).
        seed, index, bf16_sr
            As in `update`.

        Raises
        ------
        TypeError, ValueError
            If an argument is not allowed; the message names it.
        """
        rule = self._rule_of(hessian, "hessian")
        rule.check_state(state, hessian, "hessian", any_dtype=True)
        key = _noise_key(seed, unsigned("step", step, bits=32), index)
        noise = partial(state_noise, key) if bf16_sr else None
        state = map_leaves(partial(array_namespace(hessian).asarray, copy=True), state)
        return rule.with_hessian(hessian, state, noise)

    # A rule defines or overrides the methods below.

    def for_shape(self, shape: tuple[int, ...]) -> "Rule":  # noqa: ARG002
        """Return the rule of parameters of this shape: the rule itself, unless it is or holds a `Partition`."""
        return self

    def check_param(self, param: Array, name: str) -> None:
        """Raise unless the rule can update this parameter, called `name`."""

    def init_state(self, param: Array) -> Any:
        """Return the state before the first step, given a parameter that is checked."""
        raise NotImplementedError

    def compute(self, g: Any, state: Any, x: Any, at: At) -> tuple[Any, Any]:
        """Return the direction and the new state. All arrays are in the operation dtype, and nothing is rounded."""
        raise NotImplementedError

    def summand(self, g: Any, state: Any, x: Any, at: At) -> Total | None:  # noqa: ARG002
        """Return the part of this parameter in `At.total`, None if the rule reads no norm over all parameters."""
        return None

    def advance(self, g: Any, state: Any, x: Any, at: At, decay: float) -> tuple[Any, Any]:
        """Return the parameter after the step and the new state. The parameter shrinks by the factor `decay`.

        The rule reads the parameter before that, as in torch's Adafactor and in optax. A rule that `has_own_step`
        overrides this method.
        """
        direction, state = self.compute(g, state, x, at)
        return x * decay - at.lr * direction, state

    def evaluated(self, param: Array, state: Any) -> Any:  # noqa: ARG002
        """Return the parameter to evaluate the model with."""
        return param

    def with_hessian(self, hessian: Array, state: Any, noise: StateNoise | None) -> Any:  # noqa: ARG002
        """Return the state after an estimate of the Hessian's diagonal."""
        raise TypeError(f"{type(self).__name__} takes no Hessian; SophiaH does")

    def zeros(self, param: Array, shape: tuple[int, ...] | None = None) -> Any:
        """Return an array of zeros in the dtype of the state, of the shape of the parameter or of another one."""
        dtype = self.state_dtype or ("float64" if dtype_name(param) == "float64" else "float32")
        shape = tuple(param.shape) if shape is None else shape
        if dtype == "bfloat16":
            # asarray, because NumPy's operations return scalars at rank 0
            return array_namespace(param).asarray(bfloat16_from_float32_bits(full(shape, 0, "int32", like=param)))
        return full(shape, 0.0, dtype, like=param)

    @staticmethod
    def scalar(param: Array, value: float = 0.0) -> Any:
        """Return a number of the state: an array of rank 0 in float64, or in float32 on a device without float64."""
        return full((), value, "float64" if has_float64(param) else "float32", like=param)


def _noise_key(seed: int, step: int, index: int) -> NoiseKey:
    """Return the key of the noise at a step that is checked, or raise an error that names one of the others."""
    return NoiseKey(unsigned("seed", seed, bits=64), step, unsigned("index", index, bits=32))


def widen_states(state: Any, compute: ComputeDtype) -> Any:
    """Return a state in the operation dtype."""
    return map_leaves(lambda leaf: to_compute(leaf, compute), state)


def round_states(new: Any, old: Any, noise: StateNoise | None) -> Any:
    """Round a new state to the dtypes of the old one, bfloat16 with noise unless it is None."""
    rounded: list[Any] = []
    for number, (leaf, before) in enumerate(zip(leaves(new), leaves(old), strict=True)):
        if leaf is None:
            rounded.append(None)
            continue
        dtype = dtype_name(before)
        words = noise(number, leaf) if dtype == "bfloat16" and noise is not None else None
        rounded.append(array_namespace(before).asarray(to_storage(leaf, dtype, words)))
    return rebuilt(new, iter(rounded))


def state_noise(key: NoiseKey, number: int, x: Array) -> Any:
    """Return the noise words of all elements of the state with this number."""
    start, count = (number + 1) * STATE_NOISE, math.prod(x.shape)
    return array_namespace(x).reshape(noise_in_range(key, start, start + count, like=x), x.shape)
