"""Update NumPy arrays by the kernels, with the arguments of `rose_core.update`."""

import math
from typing import Any, Final

import numpy as np

from rose_core import decay_factor
from rose_core.hyperparameters import resolve_compute_dtype
from rose_core.namespace import dtype_name
from rose_core.noise import NoiseKey
from rose_kernels import Kernel, Kernels, Kind, Launch, Layout, Threads, layout_of

__all__ = ["KINDS", "layout_of_arrays", "update_by_kernels"]

DTYPES: Final = ("float64", "float32", "float16", "bfloat16")
KINDS: Final = [
    kind
    for param in DTYPES
    for grad in DTYPES
    for compute in ("fp64", "fp32")
    if (kind := Kind(param, grad, compute)).has_kernels
]


def layout_of_arrays(param: np.ndarray, grad: np.ndarray, *, in_c_order: bool, **options: bool) -> Layout | None:
    """Return the layout of a parameter and its gradient, which are NumPy arrays."""
    strides = ([stride // x.itemsize for stride in x.strides] for x in (param, grad))
    return layout_of(param.shape, *strides, (param.itemsize, grad.itemsize), in_c_order=in_c_order, **options)


def update_by_kernels(
    param: np.ndarray,
    grad: np.ndarray,
    /,
    *,
    threads: int = 1,
    noise: np.ndarray | NoiseKey | None = None,
    lr: float,
    weight_decay: float | None = 1e-4,
    lr_reference: float | None = None,
    centralize: bool = True,
    stabilize: bool = True,
    compute_dtype: Any = "fp64",
    maximize: bool = False,
    max_step: float | None = None,
) -> bool:
    """Update the parameter in place, or return False and leave it unchanged if no kernel can walk its layout.

    `noise` is an array of noise words, or the key of portable noise.
    """
    layout = layout_of_arrays(param, grad, centralize=centralize, stabilize=stabilize, in_c_order=noise is not None)
    if layout is None:
        return False
    compute = resolve_compute_dtype(compute_dtype, param, dtype_name(param), stochastic=noise is not None)
    kind = Kind(dtype_name(param), dtype_name(grad), compute)
    factor = decay_factor(lr, weight_decay=weight_decay, lr_reference=lr_reference)
    limit = math.inf if max_step is None else max_step * lr
    portable = noise if isinstance(noise, NoiseKey) else None
    kernels, address, grad_address = Kernels(), param.ctypes.data, grad.ctypes.data
    launch = Launch([Kernel(kind, layout)], [address], [grad_address], [lr], [factor], [maximize], [limit], [portable])
    if isinstance(noise, np.ndarray):
        kernels.run_drawing(launch, _Words(noise), Threads(threads))
    else:
        kernels.run(launch, Threads(threads))
    return True


class _Words:
    """Noise that is drawn from an array, in C order."""

    def __init__(self, words: np.ndarray) -> None:
        self._words = np.ascontiguousarray(words, dtype=np.int32).ravel()
        self._drawn = 0

    def __call__(self, start: int, stop: int) -> tuple[int, np.ndarray]:
        assert start == self._drawn
        words = self._words[start:stop].copy()
        self._drawn = stop
        return words.ctypes.data, words
