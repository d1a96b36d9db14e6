"""The array libraries that `train_digits.py` runs on: for each, the optimizer and the copies from and to the host.

Host arrays are NumPy arrays, with the bfloat16 of `ml_dtypes`. All optimizers are used in the same way:
`optimizer = rose(parameters, lr, sr_seed=seed)`, then `optimizer.param_groups[0]["lr"] = lr` and
`optimizer.step(gradients)`. Parameters and gradients are mappings with the same names.
"""
# ruff: noqa: PLC0415  (torch, CuPy and array-api-strict are imported only when their backend is opened)

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import ml_dtypes
import numpy as np

import rose_numpy
from rose_core import update

__all__ = ["BACKENDS", "Backend", "MissingBackendError", "open_backend"]


@dataclass(frozen=True)
class Backend:
    """An array library on one kind of device.

    Attributes
    ----------
    name : the key in BACKENDS.
    array : copies a host array to the library.
    host : copies an array of the library to the host.
    rose : the optimizer for arrays of the library.
    has_bfloat16 : whether the library has bfloat16 arrays.
    """

    name: str
    array: Callable[[np.ndarray], Any]
    host: Callable[[Any], np.ndarray]
    rose: Callable[..., Any]
    has_bfloat16: bool = True


class MissingBackendError(Exception):
    """Raised for a backend that cannot run here. The message is the reason."""


def open_backend(name: str) -> Backend:
    """Return the backend with this name, a key of BACKENDS, or raise MissingBackendError."""
    return BACKENDS[name]()


def _numpy() -> Backend:
    return Backend("numpy", np.copy, np.copy, rose_numpy.Rose)


def _cupy() -> Backend:
    _require("cupy", "CuPy")
    import cupy

    import rose_cupy

    if not cupy.cuda.is_available():
        raise MissingBackendError("CuPy finds no CUDA device")
    return Backend("cupy", cupy.asarray, cupy.asnumpy, rose_cupy.Rose)


def _torch() -> Backend:
    return _torch_on("cpu", "torch")


def _torch_cuda() -> Backend:
    _require("torch", "PyTorch")
    import torch

    if not torch.cuda.is_available():
        raise MissingBackendError("PyTorch finds no CUDA device")
    return _torch_on("cuda", "torch-cuda")


def _torch_on(device: str, name: str) -> Backend:
    _require("torch", "PyTorch")
    import torch

    from rose_torch import Rose

    class RoseWithGradients:
        """Rose for PyTorch, whose `step` takes the gradients as an argument instead of reading `.grad`."""

        def __init__(self, parameters: Mapping[str, torch.Tensor], lr: float, *, sr_seed: int) -> None:
            self.parameters = parameters
            self.optimizer = Rose(parameters.values(), lr, sr_seed=sr_seed)
            self.param_groups = self.optimizer.param_groups

        def step(self, gradients: Mapping[str, torch.Tensor]) -> None:
            for parameter_name, parameter in self.parameters.items():
                parameter.grad = gradients[parameter_name]
            self.optimizer.step()

    # torch does not know the bfloat16 of ml_dtypes, so bfloat16 is copied as 16-bit integers in both directions.
    def array(x: np.ndarray) -> torch.Tensor:
        if x.dtype == ml_dtypes.bfloat16:
            return torch.tensor(x.view(np.int16), device=device).view(torch.bfloat16)
        return torch.tensor(x, device=device)

    def host(x: torch.Tensor) -> np.ndarray:
        bits: np.ndarray = x.view(torch.int16 if x.dtype == torch.bfloat16 else x.dtype).numpy(force=True)
        return bits.view(ml_dtypes.bfloat16).copy() if x.dtype == torch.bfloat16 else bits.copy()

    return Backend(name, array, host, RoseWithGradients)


def _array_api_strict() -> Backend:
    _require("array_api_strict", "array-api-strict")
    import array_api_strict

    class CoreRose:
        """Rose for a library without an adapter: a loop over `rose_core.update`."""

        def __init__(self, parameters: Mapping[str, Any], lr: float, *, sr_seed: int) -> None:
            del sr_seed  # it seeds the rounding to bfloat16, and the library has no bfloat16
            self.parameters, self.param_groups = parameters, [{"lr": lr}]

        def step(self, gradients: Mapping[str, Any]) -> None:
            for name, parameter in self.parameters.items():
                parameter[...] = update(parameter, gradients[name], lr=self.param_groups[0]["lr"])

    array = partial(array_api_strict.asarray, copy=True)
    return Backend("array-api-strict", array, np.array, CoreRose, has_bfloat16=False)


def _require(module: str, name: str) -> None:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingBackendError(f"{name} is not installed") from error
    except ImportError as error:
        raise MissingBackendError(f"{name} is installed, but cannot be imported") from error


BACKENDS: Final[Mapping[str, Callable[[], Backend]]] = {
    "numpy": _numpy,
    "torch": _torch,
    "torch-cuda": _torch_cuda,
    "cupy": _cupy,
    "array-api-strict": _array_api_strict,
}
