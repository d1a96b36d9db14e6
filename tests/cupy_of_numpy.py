"""CuPy as far as Rose asks for it, made of NumPy, so that rose_cupy runs where there is no GPU.

It is as strict as CuPy in what has been a bug: its devices have no hash, a result is an array even at rank 0, and its
arrays do not mix with NumPy's. Its arithmetic is NumPy's: CuPy's is tested where there is a GPU.
"""

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

__all__ = ["array", "cupy", "ndarray"]


class Device:
    """The one device there is."""

    id = 0
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device)

    def __repr__(self) -> str:
        return "<CUDA Device 0>"


class ndarray(np.ndarray):  # noqa: N801  (CuPy's name)
    """An array of CuPy's."""

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
        return _own(super().__getitem__(key))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if any(type(x) is np.ndarray for x in inputs):
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        hosts = [x.view(np.ndarray) if isinstance(x, ndarray) else x for x in inputs]
        if out := options.get("out"):
            options["out"] = tuple(x.view(np.ndarray) for x in out)
        result = getattr(ufunc, method)(*hosts, **options)
        return out[0] if out else _own(result)


def _own(result: Any) -> Any:
    """Return what NumPy has returned as CuPy would have."""
    if isinstance(result, tuple | list):
        return type(result)(map(_own, result))
    return np.asarray(result).view(ndarray) if isinstance(result, np.ndarray | np.generic) else result


class _Functions(ModuleType):
    """NumPy's functions, which return CuPy's arrays."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        return self._of(found) if callable(found) and not isinstance(found, type) else found

    @staticmethod
    def _of(function: Callable[..., Any]) -> Callable[..., Any]:
        def returning_own(*args: Any, **options: Any) -> Any:
            options.pop("device", None)
            return _own(function(*args, **options))

        return returning_own


cupy = _Functions("cupy")
cupy.ndarray = ndarray  # type: ignore[attr-defined]
cupy.cuda = SimpleNamespace(Device=Device)  # type: ignore[attr-defined]


def array(x: np.ndarray) -> Any:
    """Return a copy as an array of CuPy's."""
    return np.array(x).view(ndarray)
