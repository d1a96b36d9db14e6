"""The options of Rose and their validation (ROSE-10)."""

import math
import numbers
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from rose_core.namespace import Array, dtype_name, has_float64
from rose_core.rounding import ComputeDtype

__all__ = [
    "COMPUTE_DTYPES",
    "Hyperparameters",
    "real_number",
    "resolve_compute_dtype",
    "unsigned",
    "validate",
    "validated",
]

COMPUTE_DTYPES: Final[Mapping[str, ComputeDtype | None]] = {
    "float64": "fp64",
    "fp64": "fp64",
    "float32": "fp32",
    "fp32": "fp32",
    "float16": "fp16",
    "fp16": "fp16",
    "bfloat16": "bf16",
    "bf16": "bf16",
    "none": None,
    "null": None,
}


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """All options of Rose, validated and in their plain form: numbers, booleans, strings and None.

    Parameters
    ----------
    lr : float
        Learning rate, a finite number >= 0.
    weight_decay : float or None
        Coefficient of the decoupled weight decay, a finite number >= 0; None is 0, no decay.
    wd_schedule : bool or float
        Whether the decay follows the schedule of `lr`: True refers to the group's `max_lr`, else its
        `initial_lr`; a number > 0 is the reference itself.
    centralize : bool
        Whether the mean of each slice is subtracted from gradients of rank 2 and above.
    stabilize : bool
        Whether the ranges of rank 2 and above are blended with their mean by the trust factor.
    bf16_sr : bool
        Whether bfloat16 parameters are rounded stochastically.
    compute_dtype : str, dtype or None
        "fp64", "fp32", "fp16" or "bf16", or the same as a dtype of any library; None computes in the
        parameter's own dtype (float32 for a bfloat16 parameter rounded stochastically).
    maximize : bool
        Whether to ascend the gradient.
    sr_seed : int or None
        Seed in [0, 2**64) of the portable noise; None where the noise comes from elsewhere.
    max_step : float or None
        The largest change of an element at a step, as a multiple of `lr`: a number > 0. None and infinity do not limit
        it. With None, the optimizers warn about a very large change.

    Raises
    ------
    TypeError
        If an option is of the wrong type.
    ValueError
        If an option has a value that is not allowed, NaN included, or `bf16_sr` stands beside a 16-bit
        `compute_dtype`.

    Notes
    -----
    ROSE-10.1 to ROSE-10.4, ROSE-11.1.

    Examples
    --------
    >>> Hyperparameters(lr=1e-3, compute_dtype="Float32").compute_dtype
    'fp32'
    >>> Hyperparameters(lr=-1)
    Traceback (most recent call last):
        ...
    ValueError: lr must be a finite number >= 0, got -1
    """

    lr: float
    weight_decay: float | None = 1e-4
    wd_schedule: bool | float = False
    centralize: bool = True
    stabilize: bool = True
    bf16_sr: bool = True
    compute_dtype: Any = "fp64"
    maximize: bool = False
    sr_seed: int | None = 0
    max_step: float | None = None

    @property
    def limit(self) -> float | None:
        """The largest change of an element as a multiple of `lr`, None if it is not limited."""
        return None if self.max_step == math.inf else self.max_step

    def __post_init__(self) -> None:
        vars(self).update(validated(**vars(self)))  # a frozen dataclass has no assignment
        if self.bf16_sr and self.compute_dtype in ("fp16", "bf16"):
            raise ValueError(
                f"bf16_sr=True needs a compute_dtype wider than 16 bits, got {self.compute_dtype!r}; "
                'allowed beside it are "fp64", "fp32" and None'
            )

    def rounds_stochastically(self, param: Array) -> bool:
        """Tell whether the parameter is rounded with noise: `bf16_sr` is for bfloat16 alone (ROSE-8.4)."""
        return self.bf16_sr and dtype_name(param) == "bfloat16"


def validated(**options: Any) -> dict[str, Any]:
    """Return options in their plain form, or raise an error that names one of them."""
    return {name: _VALIDATORS[name](name, value) for name, value in options.items()}


def validate(option: str, value: Any) -> Any:
    """Return the option's value in its plain form, or raise an error that names the option."""
    return _VALIDATORS[option](option, value)


def resolve_compute_dtype(
    compute_dtype: ComputeDtype | None, x: Array, dtype: str, *, stochastic: bool
) -> ComputeDtype:
    """Return the compute dtype for an array with this dtype (ROSE-2.5). Raise if its device lacks it (ROSE-12.2)."""
    if compute_dtype == "fp64" and not has_float64(x):
        raise ValueError(
            f'compute_dtype="fp64" needs float64, which device {x.device} does not have; '
            'use compute_dtype="fp32", whose results are not bit-exact there'
        )
    default = "fp32" if stochastic and dtype == "bfloat16" else COMPUTE_DTYPES[dtype]
    return compute_dtype or default  # type: ignore[return-value]


def unsigned(option: str, value: Any, *, bits: int, also: str = "") -> int:
    """Return an unsigned integer with at most `bits` bits, or raise an error that names the option."""
    allowed = f"{also}an integer in [0, 2**{bits})"
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool | np.bool_):
        raise TypeError(f"{option} must be {allowed}, got {value!r}")
    if not 0 <= number < 2**bits:
        raise ValueError(f"{option} must be {allowed}, got {value!r}")
    return number


def real_number(option: str, value: Any, allowed: str) -> float:
    """Return the value of a real number, or of an array with one element and at most one axis, as a float."""
    if type(value) is float:
        return value
    if hasattr(value, "dtype"):
        is_one = getattr(value, "shape", None) in ((), (1,))
        is_real = is_one and dtype_name(value).startswith(("float", "bfloat", "int", "uint"))
    else:
        is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_real:
        raise TypeError(f"{option} must be {allowed}, got {value!r}")
    try:
        # .item(), because torch warns when a tensor that requires a gradient becomes a float
        return float(value.item() if hasattr(value, "item") else value)
    except OverflowError:  # an integer above the largest float
        return math.inf


def _non_negative(option: str, value: Any) -> float:
    allowed = "a finite number >= 0"
    number = real_number(option, value, allowed)
    if not 0.0 <= number < math.inf:
        raise ValueError(f"{option} must be {allowed}, got {value!r}")
    return number


def _weight_decay(option: str, value: Any) -> float:
    return 0.0 if value is None else _non_negative(option, value)


def _reference(option: str, value: Any, allowed: str = "None or a finite learning rate > 0") -> float | None:
    if value is None:
        return None
    number = real_number(option, value, allowed)
    if not 0.0 < number < math.inf:
        raise ValueError(f"{option} must be {allowed}, got {value!r}")
    return number


def _wd_schedule(option: str, value: Any) -> bool | float | None:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    allowed = "False, True or a finite reference learning rate > 0"
    if value is None:
        raise TypeError(f"{option} must be {allowed}, got {value!r}")
    return _reference(option, value, allowed)


def _max_step(option: str, value: Any) -> float | None:
    if value is None:
        return None
    allowed = "None or a number > 0"
    number = real_number(option, value, allowed)
    if not number > 0.0:
        raise ValueError(f"{option} must be {allowed}, got {value!r}")
    return number


def _boolean(option: str, value: Any) -> bool:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise TypeError(f"{option} must be True or False, got {value!r}")


def _compute_dtype(option: str, value: Any) -> ComputeDtype | None:
    if value is None:
        return None
    name = value if isinstance(value, str) else getattr(value, "__name__", str(value)).rpartition(".")[2]
    try:
        return COMPUTE_DTYPES[name.strip().lower()]
    except KeyError:
        allowed = ", ".join(COMPUTE_DTYPES)
        raise ValueError(f"{option} must be None, a dtype or one of {allowed}; got {value!r}") from None


def _seed(option: str, value: Any) -> int | None:
    return None if value is None else unsigned(option, value, bits=64, also="None or ")


_VALIDATORS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "lr": _non_negative,
    "weight_decay": _weight_decay,
    "wd_schedule": _wd_schedule,
    "centralize": _boolean,
    "stabilize": _boolean,
    "bf16_sr": _boolean,
    "compute_dtype": _compute_dtype,
    "maximize": _boolean,
    "sr_seed": _seed,
    "max_step": _max_step,
    # Not options of the optimizer, but numbers that a schedule or a caller brings (ROSE-3.4).
    "lr_reference": _reference,
    "max_lr": _non_negative,
    "initial_lr": _non_negative,
}
