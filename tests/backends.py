"""The array libraries that the tests run on."""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import pytest

__all__ = ["BACKENDS", "Backend", "backends"]

ALL_DTYPES = ("float64", "float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Backend:
    """An array library, with its device and its settings.

    Attributes
    ----------
    array : copies a NumPy array to the library. bfloat16 is that of ml_dtypes.
    dtypes : the storage dtypes of the library.
    missing : returns why the library cannot run here, an empty string if it can.
    flushes : whether the library flushes float32 subnormals at compute dtypes below float64 (ROSE-12.3).
    settings : returns a context manager that a test runs in.
    marks : the pytest marks of its tests.
    """

    name: str
    array: Callable[[np.ndarray], Any]
    dtypes: tuple[str, ...] = ALL_DTYPES
    missing: Callable[[], str] = lambda: ""
    flushes: bool = False
    settings: Callable[[], AbstractContextManager[Any]] = field(default=contextlib.nullcontext)
    marks: tuple[pytest.MarkDecorator, ...] = ()


def _read_only(x: np.ndarray) -> np.ndarray:
    copy = x.copy()
    copy.flags.writeable = False
    return copy


def _torch(x: np.ndarray, device: str = "cpu") -> Any:
    import torch

    if x.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(x.view(np.int16).copy()).view(torch.bfloat16).to(device)
    return torch.from_numpy(x.copy()).to(device)


def _torch_cuda(x: np.ndarray) -> Any:
    return _torch(x, "cuda")


def _strict(x: np.ndarray) -> Any:
    import array_api_strict

    return array_api_strict.asarray(x, copy=True)


def _cupy(x: np.ndarray) -> Any:
    import cupy

    # CuPy copies an array of rank 0 by filling with its value, and then -0 becomes +0.
    return cupy.asarray(x.reshape(-1)).reshape(x.shape) if x.ndim == 0 else cupy.asarray(x)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def _no_cupy() -> str:
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed"
    import cupy

    return "" if cupy.cuda.is_available() else "CuPy finds no CUDA device"


@cache
def _no_torch_cuda() -> str:
    import torch

    return "" if torch.cuda.is_available() else "torch finds no CUDA device"


BACKENDS = (
    Backend("numpy", np.copy),
    Backend("numpy-read-only", _read_only),
    Backend("torch-1-thread", _torch, settings=lambda: _threads(1)),
    Backend("torch-2-threads", _torch, settings=lambda: _threads(2)),
    Backend("array-api-strict", _strict, dtypes=("float64", "float32")),
    Backend("cupy", _cupy, missing=_no_cupy, flushes=True, marks=(pytest.mark.gpu,)),
    Backend("torch-cuda", _torch_cuda, missing=_no_torch_cuda, marks=(pytest.mark.gpu,)),
)

_PARAMETERS = [pytest.param(backend, id=backend.name, marks=backend.marks) for backend in BACKENDS]

backends = pytest.mark.parametrize("backend", _PARAMETERS, indirect=True)
"""Run a test on every backend. The fixture in conftest.py skips those that cannot run here, with the reason."""
