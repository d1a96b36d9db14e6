"""A port that is a Python function over NumPy arrays."""

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from rose_spec.arrays import NUMPY_DTYPES, from_array, to_array, words_of
from rose_spec.oracle import Tensor
from rose_spec.ports.port import HarnessError, described, lacking, load_object, plain_options
from rose_spec.replies import Answer, Failed, NoiseRequest, Refused, Reply, StepRequest, Unsupported, Words

__all__ = ["PythonPort", "accepted_names"]


class PythonPort:
    """A function ``update(param, grad, **options)`` that returns the new parameter.

    Parameters
    ----------
    update : str
        The function, as ``module:function``. It receives NumPy arrays; bfloat16 is the dtype `ml_dtypes.bfloat16`.
        Only the options of the vector are passed, with ``noise`` as an array of uint16.
    noise : str, optional
        The function of the portable noise, as ``module:function``. It is called like `rose_core.noise_words`.

    Notes
    -----
    ValueError and TypeError are refusals. A missing option and NotImplementedError are unsupported.
    """

    def __init__(self, update: str, noise: str | None = None) -> None:
        self.name = update
        self._update: Callable[..., Any] = load_object(update)
        self._noise: Callable[..., Any] | None = None if noise is None else load_object(noise)
        self._options = accepted_names(self._update)
        if self._options is not None and "lr" not in self._options:
            raise HarnessError(f"{update} has no option lr; it has {', '.join(sorted(self._options)) or 'none'}")

    def step(self, request: StepRequest) -> Reply:
        """Call the function."""
        options = plain_options(request.options)
        if request.noise is not None:
            options["noise"] = np.asarray(request.noise, np.uint16).reshape(request.param.shape)
        if self._options is not None and (missing := [name for name in options if name not in self._options]):
            return Unsupported(f"no option {', '.join(missing)}", tuple(missing))
        param, grad = to_array(request.param), to_array(request.grad)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = self._update(param, grad, **options)
        except NotImplementedError as error:
            return Unsupported(lacking(error))
        except (ValueError, TypeError) as error:
            if not np.array_equal(to_words(param), words_of(request.param)):
                return Failed(f"raised after it changed the parameter (ROSE-11.3): {described(error)}")
            return Refused(described(error))
        except BaseException as error:
            return Failed(f"raised {described(error)}")
        return answer(result, param.size)

    def noise(self, request: NoiseRequest) -> Reply:
        """Call the noise function."""
        if self._noise is None:
            return Unsupported("no portable noise; --noise-function names one")
        try:
            numbers = {"seed": request.seed, "step": request.step, "index": request.index}
            words = self._noise((request.count,), **numbers, like=np.empty(0))
            return Words([int(word) for word in np.asarray(words).ravel().tolist()])
        except NotImplementedError as error:
            return Unsupported(lacking(error))
        except BaseException as error:
            return Failed(f"raised {described(error)}")

    def option_name(self, option: str) -> str:
        """Return the function's name of an option, which is the same."""
        return option

    def close(self) -> None:
        """Do nothing: a function holds no resources."""


def accepted_names(function: Callable[..., Any]) -> frozenset[str] | None:
    """Return the keyword parameters of a function, or None if it accepts any keyword."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # raised for some compiled functions
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(p.name for p in parameters if p.kind is not p.POSITIONAL_ONLY)


def answer(result: Any, size: int) -> Reply:
    """Return the reply for the return value of a function, without values if it has more elements than `size`."""
    try:
        array = np.asarray(result)
    except BaseException as error:  # an object may define its conversion
        return Failed(f"returned {type(result).__name__}, which is no array: {described(error)}")
    if array.dtype not in NUMPY_DTYPES.values():
        return Failed(f"returned {type(result).__name__} of dtype {array.dtype}, not a floating-point array")
    if array.size > size:
        return Answer(Tensor(array.dtype.name, array.shape, ()))
    return Answer(from_array(array))


def to_words(array: np.ndarray) -> np.ndarray:
    """Return the bits of an array as unsigned integers."""
    return np.asarray(array, order="C").view(f"u{array.dtype.itemsize}")
