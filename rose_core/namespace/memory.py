"""Where arrays lie, in blocks that fit a cache, and those of few elements where calls cost least."""

import functools
from typing import Any

import numpy as np

from rose_core.namespace.lookup import Array, array_namespace, device, dtype_name, is_compiled, library
from rose_core.namespace.words import words_of

__all__ = [
    "as_array_beside",
    "as_light_array",
    "block_elements",
    "has_light_arrays",
    "keep_freed_memory",
    "sent_beside",
]


def block_elements(x: Array) -> int:
    """Return how many elements of an array of this library and device to work on at a time.

    On a CPU so many that the temporaries of a block stay in the cache, and are chunks that the allocator keeps where
    larger ones would be faulted in anew, page by page; and yet enough work a call. On a GPU so many that launching
    kernels costs nothing.
    """
    if library(x) == "cupy" or (library(x) == "torch" and device(x).type != "cpu"):
        return 2**24
    return 2**17


def keep_freed_memory(x: Array) -> None:
    """Have the memory that one block frees kept for the next one.

    NOTE: [the trimmed heap] glibc gives the free end of its heap back to the system where that is more than
    twice the largest chunk, up to 32 MiB, that was ever unmapped. A block frees more than it allocates in one
    piece, so each would fault its pages in anew, and a step take three times as long. To have unmapped such a
    chunk, which is never touched, is enough (https://man7.org/linux/man-pages/man3/mallopt.3.html).
    """
    if block_elements(x) < 2**24:
        _unmap_a_chunk(array_namespace(x), device(x))


@functools.cache
def _unmap_a_chunk(xp: Any, place: Any) -> None:
    xp.empty((2**23 - 2**12,), dtype=xp.float32, device=place)


def as_light_array(x: Any) -> Any:
    """Return an array of few elements in the library whose calls cost least.

    That is NumPy for what lies in the memory of the CPU, which is shared: a call of torch costs twice to thrice as
    much, and a step makes some fifty of them on one value a slice. Subclasses of a tensor, and what stands for one
    while torch traces or transforms a function, have no memory to share, and NumPy has no bfloat16 of torch's.
    """
    if library(x) != "torch" or device(x).type != "cpu" or dtype_name(x) == "bfloat16":
        return x
    try:
        light = x.numpy()
        if not is_compiled(x):
            x.untyped_storage().data_ptr()  # what stands for a tensor in `torch.func.functionalize` has none
    except (RuntimeError, TypeError):
        return x
    return light


def has_light_arrays(x: Array) -> bool:
    """Tell whether `as_light_array` makes NumPy's of what `x`, an array of floats, is reduced to."""
    return library(x) in ("numpy", "torch") and isinstance(as_light_array(words_of(x)), np.ndarray)


def sent_beside(values: np.ndarray, other: Array) -> Any:
    """Return values as an array of the library of `other`, on its device, for which the host does not wait."""
    xp = array_namespace(other)
    if library(other) == "torch" and device(other).type == "cuda":  # which waits unless the memory is pinned
        return xp.from_numpy(values).pin_memory().to(device(other), non_blocking=True)
    return xp.asarray(values, device=device(other))


def as_array_beside(x: Any, other: Array) -> Any:
    """Return an array that may have become light in the library of `other`, where its memory is."""
    if isinstance(x, np.ndarray) and library(other) == "torch":
        return array_namespace(other).from_numpy(x)
    return x
