"""The errors of the public functions: each names the argument, its value and the allowed values (ROSE-11)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import array_api_strict
import ml_dtypes
import numpy as np
import pytest
import torch

from rose_core import noise_words, reproducible_sum, round_to_bfloat16, slice_statistics, update
from rose_core.update import checked_compute_dtype

FLOATS = "float64, float32, float16, bfloat16"
ARRAY = "must be an array of a library that follows the array-API standard"
X = np.ones((2, 3), np.float32)
B = X.astype(ml_dtypes.bfloat16)
WORDS = np.zeros((2, 3), np.int32)


@dataclass(frozen=True)
class Refusal:
    """A call that raises, the error and its whole text."""

    call: Callable[[], Any]
    error: type[Exception]
    text: str


def noise_of(**arguments: Any) -> Callable[[], Any]:
    """Return a call of `noise_words` with some arguments replaced."""
    return lambda: noise_words(**({"shape": (3,), "seed": 0, "step": 0, "index": 0, "like": X} | arguments))


def functions_of_one_array(x: Any) -> dict[str, tuple[Callable[[], Any], str]]:
    """Return calls of each function with `x` as one of its arrays, and the name of this argument."""
    return {
        "update, param": (lambda: update(x, X, lr=0.1), "param"),
        "update, grad": (lambda: update(X, x, lr=0.1), "grad"),
        "slice_statistics": (lambda: slice_statistics(x), "grad"),
        "round_to_bfloat16": (lambda: round_to_bfloat16(x), "x"),
        "reproducible_sum": (lambda: reproducible_sum(x, axis=None), "x"),
    }


NO_ARRAYS = {"a list": [[1.0]], "a number": 1.0, "None": None, "a masked array": np.ma.ones(3)}
NO_FLOATS = {
    "integers": X.astype(np.int32),
    "unsigned integers": X.astype(np.uint8),
    "complex numbers": X.astype(np.complex64),
    "complex numbers of torch": torch.ones(2, 3, dtype=torch.complex128),
    "bools": X.astype(bool),
    "bools of the standard": array_api_strict.ones((2, 3), dtype=array_api_strict.bool),
    "swapped bytes": X.astype(">f4"),
    "80 bits": X.astype(np.longdouble),
    "8 bits": torch.ones(2, 3).to(torch.float8_e4m3fn),
    "strings": np.asarray(["1.0"]),
    "objects": X.astype(object),
}


def dtype_text(x: Any) -> str:
    return str(x.dtype).rpartition(".")[2]


ONE_ARRAY = {
    **{
        f"{function} of {name}": Refusal(call, TypeError, f"{argument} {ARRAY}, got {type(x).__name__}")
        for name, x in NO_ARRAYS.items()
        for function, (call, argument) in functions_of_one_array(x).items()
    },
    **{
        f"{function} of {name}": Refusal(call, TypeError, f"{argument} has dtype {dtype_text(x)}; allowed are {FLOATS}")
        for name, x in NO_FLOATS.items()
        for function, (call, argument) in functions_of_one_array(x).items()
    },
}

TOGETHER = {
    "another library": Refusal(
        lambda: update(X, torch.ones(2, 3), lr=0.1),
        TypeError,
        "grad is an array of torch, param of numpy; they must be of one library",
    ),
    "another shape": Refusal(
        lambda: update(X, X.T, lr=0.1), ValueError, "grad has shape (3, 2), param has (2, 3); they must be equal"
    ),
    "a shape that would broadcast": Refusal(
        lambda: update(X, X[:1], lr=0.1), ValueError, "grad has shape (1, 3), param has (2, 3); they must be equal"
    ),
    "a rank that would broadcast": Refusal(
        lambda: update(X[0, 0, ...], X[0, :1], lr=0.1),
        ValueError,
        "grad has shape (1,), param has (); they must be equal",
    ),
    "another device": Refusal(
        lambda: update(
            *(array_api_strict.ones(3, device=array_api_strict.Device(d)) for d in ("CPU_DEVICE", "device1")), lr=0.1
        ),
        ValueError,
        "grad is on device array_api_strict.Device('device1'), param on array_api_strict.Device('CPU_DEVICE'); "
        "they must be on one device",
    ),
    "empty arrays of different shapes": Refusal(
        lambda: update(X[:0], X[:0, :2], lr=0.1),
        ValueError,
        "grad has shape (0, 2), param has (0, 3); they must be equal",
    ),
}

NOISE_TO_ROUND_WITH = {
    "for float32": Refusal(
        lambda: update(X, X, lr=0.1, noise=WORDS),
        ValueError,
        "noise must be None for a param of dtype float32; it rounds bfloat16 only",
    ),
    "at compute dtype bfloat16": Refusal(
        lambda: update(B, B, lr=0.1, noise=WORDS, compute_dtype="bf16"),
        ValueError,
        "noise needs a compute_dtype wider than 16 bits, got 'bf16'",
    ),
    "at compute dtype float16": Refusal(
        lambda: update(B, B, lr=0.1, noise=WORDS, compute_dtype=np.float16),
        ValueError,
        "noise needs a compute_dtype wider than 16 bits, got 'fp16'",
    ),
    "in a list": Refusal(
        lambda: update(B, B, lr=0.1, noise=[1]), TypeError, "noise must be an array of integers, got list"
    ),
    "a number": Refusal(
        lambda: round_to_bfloat16(X, noise=1), TypeError, "noise must be an array of integers, got int"
    ),
    "of floats": Refusal(
        lambda: update(B, B, lr=0.1, noise=X), TypeError, "noise has dtype float32; allowed are the integer dtypes"
    ),
    "of bools": Refusal(
        lambda: round_to_bfloat16(X, noise=X > 0), TypeError, "noise has dtype bool; allowed are the integer dtypes"
    ),
    "of swapped bytes": Refusal(
        lambda: round_to_bfloat16(X, noise=WORDS.astype(">i4")),
        TypeError,
        "noise has dtype >i4; allowed are the integer dtypes",
    ),
    "of another shape than param": Refusal(
        lambda: update(B, B, lr=0.1, noise=WORDS[0]),
        ValueError,
        "noise has shape (3,), param has (2, 3); they must be equal",
    ),
    "of another shape than x": Refusal(
        lambda: round_to_bfloat16(X, noise=WORDS.T),
        ValueError,
        "noise has shape (3, 2), x has (2, 3); they must be equal",
    ),
    "of another library": Refusal(
        lambda: round_to_bfloat16(X, noise=torch.zeros(2, 3, dtype=torch.int32)),
        TypeError,
        "noise is an array of torch, x of numpy; they must be of one library",
    ),
    "of float64 values": Refusal(
        lambda: round_to_bfloat16(X.astype(np.float64)), TypeError, "x has dtype float64; allowed is float32"
    ),
}

NOISE_TO_MAKE = {
    "seed below 0": Refusal(noise_of(seed=-1), ValueError, "seed must be an integer in [0, 2**64), got -1"),
    "seed of 65 bits": Refusal(noise_of(seed=2**64), ValueError, f"seed must be an integer in [0, 2**64), got {2**64}"),
    "seed None": Refusal(noise_of(seed=None), TypeError, "seed must be an integer in [0, 2**64), got None"),
    "seed true": Refusal(noise_of(seed=True), TypeError, "seed must be an integer in [0, 2**64), got True"),
    "step below 0": Refusal(noise_of(step=-1), ValueError, "step must be an integer in [0, 2**32), got -1"),
    "step of 33 bits": Refusal(noise_of(step=2**32), ValueError, f"step must be an integer in [0, 2**32), got {2**32}"),
    "step a float": Refusal(noise_of(step=1.0), TypeError, "step must be an integer in [0, 2**32), got 1.0"),
    "index below 0": Refusal(noise_of(index=-1), ValueError, "index must be an integer in [0, 2**32), got -1"),
    "index of 33 bits": Refusal(
        noise_of(index=2**32), ValueError, f"index must be an integer in [0, 2**32), got {2**32}"
    ),
    "index a string": Refusal(noise_of(index="0"), TypeError, "index must be an integer in [0, 2**32), got '0'"),
    "a length below 0": Refusal(noise_of(shape=(2, -1)), ValueError, "shape must be an integer in [0, 2**63), got -1"),
    "a length that is not an integer": Refusal(
        noise_of(shape=(2.0,)), TypeError, "shape must be an integer in [0, 2**63), got 2.0"
    ),
}

SUMS_AND_STATISTICS = {
    "an axis out of range": Refusal(
        lambda: reproducible_sum(X, axis=2), ValueError, "axis must lie in [-2, 2) for an array of rank 2, got 2"
    ),
    "a negative axis out of range": Refusal(
        lambda: reproducible_sum(X, axis=(0, -3)),
        ValueError,
        "axis must lie in [-2, 2) for an array of rank 2, got (0, -3)",
    ),
    "an axis of a scalar": Refusal(
        lambda: reproducible_sum(X[0, 0, ...], axis=0),
        ValueError,
        "axis must lie in [0, 0) for an array of rank 0, got 0",
    ),
    "an axis twice": Refusal(
        lambda: reproducible_sum(X, axis=(0, -2)), ValueError, "axis must not name an axis twice, got (0, -2)"
    ),
    "no elements": Refusal(lambda: slice_statistics(X[:, :0]), ValueError, "grad must have elements, got shape (2, 0)"),
    "no slices": Refusal(lambda: slice_statistics(X[:0]), ValueError, "grad must have elements, got shape (0, 3)"),
    "an option of the statistics": Refusal(
        lambda: slice_statistics(X, centralize=1), TypeError, "centralize must be True or False, got 1"
    ),
    "an option of the update": Refusal(
        lambda: update(X, X, lr=float("nan")), ValueError, "lr must be a finite number >= 0, got nan"
    ),
}

REFUSALS = {
    f"{group}: {name}": refusal
    for group, refusals in {
        "one array": ONE_ARRAY,
        "together": TOGETHER,
        "noise to round with": NOISE_TO_ROUND_WITH,
        "noise to make": NOISE_TO_MAKE,
        "sums and statistics": SUMS_AND_STATISTICS,
    }.items()
    for name, refusal in refusals.items()
}


@pytest.mark.parametrize("name", REFUSALS)
def test_the_whole_text_of_an_error(name: str) -> None:
    refusal = REFUSALS[name]
    with pytest.raises(refusal.error) as raised:
        refusal.call()
    assert str(raised.value) == refusal.text


@pytest.mark.parametrize("function", functions_of_one_array(X))
@pytest.mark.parametrize("shape", [(2, 3), (0, 3)])
def test_a_sparse_array_raises_and_is_named(function: str, shape: tuple[int, int]) -> None:
    """ROSE-11.2: without the check, torch raises another error or none."""
    sparse = torch.ones(shape).to_sparse()
    dense = torch.ones(shape)
    calls = {
        **functions_of_one_array(sparse),
        "update, param": (lambda: update(sparse, dense, lr=0.1), "param"),
        "update, grad": (lambda: update(dense, sparse, lr=0.1), "grad"),
    }
    call, argument = calls[function]
    with pytest.raises(TypeError, match=rf"^{argument} .*sparse"):
        call()


WRONG_TYPES = {
    "like a list": (noise_of(like=[0.0]), r"^like must be an array .*, got list$"),
    "shape a number": (noise_of(shape=3), r"^shape must be .*, got 3$"),
    "axis a float": (lambda: reproducible_sum(X, axis=0.5), r"^axis must be .*, got 0\.5$"),
    "axis a string": (lambda: reproducible_sum(X, axis="0"), r"^axis must be .*, got '0'$"),
    "axis of floats": (lambda: reproducible_sum(X, axis=(0.5,)), r"^axis must be .*, got \(0\.5,\)$"),
}


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_an_argument_of_the_wrong_type_is_named(name: str) -> None:
    call, text = WRONG_TYPES[name]
    with pytest.raises(TypeError, match=text):
        call()


PAIRS = {
    "a list": (X, [[1.0]]),
    "integers": (X.astype(np.int32), X),
    "complex numbers": (X, X.astype(np.complex64)),
    "another library": (X, torch.ones(2, 3)),
    "another shape": (X, X.T),
}


@pytest.mark.parametrize(("param", "grad"), PAIRS.values(), ids=PAIRS)
def test_the_check_before_a_step_raises_what_an_update_raises(param: Any, grad: Any) -> None:
    """ROSE-11.3: optimizers call this check for every parameter before they write the first one."""
    with pytest.raises((TypeError, ValueError)) as by_update:
        update(param, grad, lr=0.1)
    with pytest.raises(type(by_update.value)) as by_check:
        checked_compute_dtype(param, grad, None, stochastic=False)
    assert str(by_check.value) == str(by_update.value)
    with pytest.raises(type(by_update.value), match=r"weight\[0\]"):
        checked_compute_dtype(param, grad, None, stochastic=False, names=("weight[0]", "the gradient of weight[0]"))
