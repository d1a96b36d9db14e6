"""A fake of CuPy over NumPy, so that the tests run rose_cupy without a GPU.

It has the parts of CuPy that Rose uses. It is strict where CuPy's behaviour has been a bug: devices have no hash,
results of rank 0 are arrays, and NumPy arrays are not accepted. It computes with NumPy. The tests with the mark
`gpu` run CuPy's arithmetic.
"""

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

__all__ = ["array", "cupy", "ndarray"]


class Device:
    """The only device."""

    id = 0
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device)

    def __repr__(self) -> str:
        return "<CUDA Device 0>"


class ndarray(np.ndarray):  # noqa: N801  (CuPy's name)
    """An array of the fake."""

    @property
    def device(self) -> Device:  # type: ignore[override]
        return Device()

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self.ctypes.data)

    def get(self) -> np.ndarray:
        """Return a copy on the host."""
        return np.array(self.view(np.ndarray))

    def __getitem__(self, key: Any) -> Any:
        return _wrapped(super().__getitem__(key))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if any(type(x) is np.ndarray for x in inputs):
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        hosts = [x.view(np.ndarray) if isinstance(x, ndarray) else x for x in inputs]
        if out := options.get("out"):
            options["out"] = tuple(x.view(np.ndarray) for x in out)
        result = getattr(ufunc, method)(*hosts, **options)
        return out[0] if out else _wrapped(result)


def _wrapped(result: Any) -> Any:
    """Return a result of NumPy with the types of CuPy."""
    if isinstance(result, tuple | list):
        return type(result)(map(_wrapped, result))
    return np.asarray(result).view(ndarray) if isinstance(result, np.ndarray | np.generic) else result


class _Functions(ModuleType):
    """The functions of NumPy, with arrays of the fake as their results."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        return self._wrapping(found) if callable(found) and not isinstance(found, type) else found

    @staticmethod
    def _wrapping(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            options.pop("device", None)
            return _wrapped(function(*args, **options))

        return call


cupy = _Functions("cupy")
cupy.ndarray = ndarray  # type: ignore[attr-defined]
cupy.cuda = SimpleNamespace(Device=Device)  # type: ignore[attr-defined]


def array(x: np.ndarray) -> Any:
    """Return a copy as an array of the fake."""
    return np.array(x).view(ndarray)
