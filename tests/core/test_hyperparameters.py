"""The options: their allowed values, their plain form, and the whole text of every error (ROSE-10, ROSE-11.1)."""

import dataclasses
import inspect
import json
import math
from fractions import Fraction
from typing import Any

import array_api_strict
import ml_dtypes
import numpy as np
import pytest
import torch

import rose_core
from rose_core import Hyperparameters
from rose_core.hyperparameters import resolve_compute_dtype, validate
from tests.bits import DTYPES

NAN, INF = math.nan, math.inf

# Option, value, plain form.
NUMBERS = [
    ("lr", 0.001, 0.001),
    ("lr", 0, 0.0),
    ("lr", 5e-324, 5e-324),
    ("lr", np.float32(0.5), 0.5),
    ("lr", np.asarray(0.5), 0.5),
    ("lr", torch.tensor(0.5), 0.5),
    ("lr", array_api_strict.asarray(0.5), 0.5),
    ("lr", ml_dtypes.bfloat16(0.5), 0.5),
    ("lr", Fraction(1, 2), 0.5),
    ("weight_decay", 2, 2.0),
    ("weight_decay", None, 0.0),
    ("wd_schedule", False, False),
    ("wd_schedule", True, True),
    ("wd_schedule", np.True_, True),
    ("wd_schedule", 0.25, 0.25),
    ("wd_schedule", 1, 1.0),  # ROSE-10.3: a reference, and not True
    ("wd_schedule", np.int64(3), 3.0),
    ("centralize", np.False_, False),
    ("sr_seed", None, None),
    ("sr_seed", 2**64 - 1, 2**64 - 1),
    ("sr_seed", np.uint64(2**64 - 1), 2**64 - 1),
    ("sr_seed", np.int8(7), 7),
]

# ROSE-10.2: names in any case, with blanks around them, and dtypes of every library.
NAMES = {
    "fp64": ["fp64", "float64", " FP64 ", "Float64\n", np.float64, np.dtype("float64"), np.double, torch.float64],
    "fp32": ["fp32", "FLOAT32", "\tfloat32", np.float32, torch.float, array_api_strict.float32],
    "fp16": ["fp16", "Float16", np.float16, np.half, torch.half],
    "bf16": ["bf16", "BFloat16", torch.bfloat16, ml_dtypes.bfloat16, np.dtype(ml_dtypes.bfloat16)],
    None: [None, "none", "None", "NULL", " null "],
}
ALLOWED = [
    *NUMBERS,
    *(("compute_dtype", value, plain) for plain, values in NAMES.items() for value in values),
    ("compute_dtype", array_api_strict.float64, "fp64"),
    ("max_step", None, None),
    ("max_step", 2, 2.0),
    ("max_step", np.float32(0.5), 0.5),
    ("max_step", INF, INF),
]


def label(row: tuple[Any, ...]) -> str:
    return f"{row[0]}={row[1]!r}".replace("\n", " ")


def options(option: str, value: Any) -> dict[str, Any]:
    """Return the option with the other options that it needs."""
    return {"lr": 0.1, "bf16_sr": False, option: value}


@pytest.mark.parametrize(("option", "value", "plain"), ALLOWED, ids=map(label, ALLOWED))
def test_an_allowed_value_has_its_plain_form(option: str, value: Any, plain: Any) -> None:
    """ROSE-10.1."""
    result = getattr(Hyperparameters(**options(option, value)), option)
    assert result == plain
    assert type(result) is type(plain)


NUMBER = "a finite number >= 0"
SCHEDULE = "False, True or a finite reference learning rate > 0"
LIMIT = "None or a number > 0"
SEED = "None or an integer in [0, 2**64)"
DTYPE = "None, a dtype or one of float64, fp64, float32, fp32, float16, fp16, bfloat16, bf16, none, null"

# Option, value, allowed values, error.
INVALID = [
    *(("lr", value, NUMBER, ValueError) for value in (-1, -5e-324, NAN, INF, -INF, np.float32(NAN))),
    *(("lr", value, NUMBER, TypeError) for value in (None, True, np.True_, "0.1", b"1", [0.1], 1j, np.ones(2), object)),
    *(("weight_decay", value, NUMBER, ValueError) for value in (-0.1, NAN, INF)),
    *(("weight_decay", value, NUMBER, TypeError) for value in (False, "0", (0.1,))),
    *(("wd_schedule", value, SCHEDULE, ValueError) for value in (0, 0.0, -1.0, NAN, INF)),
    *(("wd_schedule", value, SCHEDULE, TypeError) for value in (None, "True", [True])),
    *(
        (option, value, "True or False", TypeError)
        for option in ("centralize", "stabilize", "bf16_sr", "maximize")
        for value in (None, 0, 1, 1.0, "True")
    ),
    *(("max_step", value, LIMIT, ValueError) for value in (0, 0.0, -1.0, NAN, -INF)),
    *(("max_step", value, LIMIT, TypeError) for value in (True, "1", [1.0])),
    *(("sr_seed", value, SEED, ValueError) for value in (-1, 2**64)),
    *(("sr_seed", value, SEED, TypeError) for value in (True, np.False_, 1.0, "0")),
    *(
        ("compute_dtype", value, DTYPE, ValueError)
        for value in (
            "",
            "double",
            "f32",
            "fp8",
            32,
            float,
            np.int32,
            torch.int64,
            np.longdouble,
            "torch.float32",
            [None],
        )
    ),
]


@pytest.mark.parametrize(("option", "value", "allowed", "error"), INVALID, ids=map(label, INVALID))
def test_an_error_names_the_option_the_allowed_values_and_the_value(
    option: str, value: Any, allowed: str, error: type[Exception]
) -> None:
    """ROSE-11.1."""
    separator = ";" if option == "compute_dtype" else ","
    with pytest.raises(error) as refusal:
        Hyperparameters(**options(option, value))
    assert str(refusal.value) == f"{option} must be {allowed}{separator} got {value!r}"


# `float` takes these values, but would drop an imaginary part, or convert a bool or a string.
NO_NUMBERS = {
    "a complex scalar of NumPy": np.complex128(1j),
    "a complex scalar of torch": torch.tensor(1j),
    "a bool as an array of NumPy": np.asarray(True),
    "a bool as a tensor": torch.tensor(True),
    "a string as an array": np.asarray("1"),
}


@pytest.mark.parametrize("value", NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_values_that_are_not_real_numbers_raise(value: Any) -> None:
    with pytest.raises(TypeError) as refusal:
        Hyperparameters(lr=value)
    assert str(refusal.value) == f"lr must be {NUMBER}, got {value!r}"


def test_an_integer_above_every_float_raises_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"^lr must be a finite number >= 0, got 1000"):
        Hyperparameters(lr=10**400)


@pytest.mark.parametrize("compute", ["fp16", "bf16", torch.float16, " BFLOAT16 "])
def test_stochastic_rounding_at_a_16_bit_compute_dtype_raises(compute: Any) -> None:
    """ROSE-10.4. The default of `bf16_sr` is True."""
    plain = Hyperparameters(lr=1, bf16_sr=False, compute_dtype=compute).compute_dtype
    with pytest.raises(ValueError, match="bf16_sr") as refusal:
        Hyperparameters(lr=1, compute_dtype=compute)
    assert str(refusal.value) == (
        f"bf16_sr=True needs a compute_dtype wider than 16 bits, got {plain!r}; "
        'allowed beside it are "fp64", "fp32" and None'
    )


@pytest.mark.parametrize(
    "values", [{}, {"weight_decay": None, "wd_schedule": 1, "compute_dtype": torch.float32, "sr_seed": 9}]
)
def test_json_keeps_the_options(values: dict[str, Any]) -> None:
    hyperparameters = Hyperparameters(lr=torch.tensor(0.1), **values)
    plain = json.loads(json.dumps(dataclasses.asdict(hyperparameters)))
    assert Hyperparameters(**plain) == hyperparameters
    assert plain == dataclasses.asdict(hyperparameters)


def test_options_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Hyperparameters(lr=0.1).lr = 0.2  # type: ignore[misc]


def test_options_are_keyword_only() -> None:
    with pytest.raises(TypeError, match="positional"):
        Hyperparameters(0.1)  # type: ignore[misc]


def test_lr_has_no_default() -> None:
    with pytest.raises(TypeError, match="'lr'"):
        Hyperparameters()  # type: ignore[call-arg]


@pytest.mark.parametrize("function", [rose_core.update, rose_core.slice_statistics])
def test_the_defaults_of_a_function_are_those_of_the_optimizer(function: Any) -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(Hyperparameters)}
    parameters = inspect.signature(function).parameters
    shared = set(defaults) & set(parameters) - {"lr"}
    assert len(shared) >= 3
    assert {name: parameters[name].default for name in shared} == {name: defaults[name] for name in shared}


# compute_dtype, dtype of the parameter, with noise, result (ROSE-2.5).
RESOLVED = [
    (None, "float64", False, "fp64"),
    (None, "float32", False, "fp32"),
    (None, "float16", False, "fp16"),
    (None, "bfloat16", False, "bf16"),
    (None, "bfloat16", True, "fp32"),
    (None, "float32", True, "fp32"),
    (None, "float16", True, "fp16"),
    ("fp64", "bfloat16", True, "fp64"),
    ("bf16", "float64", False, "bf16"),
]


@pytest.mark.parametrize(("compute", "dtype", "stochastic", "expected"), RESOLVED)
def test_compute_dtype_none_is_the_dtype_of_the_parameter(
    compute: Any, dtype: str, stochastic: bool, expected: str
) -> None:
    param = np.zeros(1, DTYPES[dtype][0])
    assert resolve_compute_dtype(compute, param, dtype, stochastic=stochastic) == expected


def test_fp64_raises_on_a_device_without_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """ROSE-12.2, with NumPy as such a device. The compute dtype fp32 works there."""
    monkeypatch.setattr("rose_core.hyperparameters.has_float64", lambda _: False)
    param = np.ones(3, np.float32)
    with pytest.raises(ValueError, match="compute_dtype") as refusal:
        rose_core.update(param, param, lr=0.1)
    assert str(refusal.value) == (
        'compute_dtype="fp64" needs float64, which device cpu does not have; '
        'use compute_dtype="fp32", whose results are not bit-exact there'
    )
    assert rose_core.update(param, param, lr=0.1, compute_dtype="fp32").shape == (3,)


SCHEDULE_NUMBERS = [
    ("lr_reference", None, None),
    ("lr_reference", 2, 2.0),
    ("max_lr", 0, 0.0),
    ("initial_lr", 0.5, 0.5),
]


@pytest.mark.parametrize(("name", "value", "plain"), SCHEDULE_NUMBERS)
def test_the_numbers_of_a_schedule_are_validated(name: str, value: Any, plain: Any) -> None:
    assert validate(name, value) == plain
    allowed = "None or a finite learning rate > 0" if name == "lr_reference" else NUMBER
    for bad in (NAN, -1.0, INF):
        with pytest.raises(ValueError, match=name) as refusal:
            validate(name, bad)
        assert str(refusal.value) == f"{name} must be {allowed}, got {bad!r}"
