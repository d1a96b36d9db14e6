"""Memory that the values of one block after another lie in."""

import functools
import math
import operator
from collections.abc import Callable, Hashable
from typing import Any, Final

from rose_core.namespace import (
    Array,
    OperationDtype,
    array_namespace,
    conversion_into,
    dtype_name,
    magnitude_words,
    magnitude_words_into,
    scratch_memory,
    widen,
    word_dtype,
)

__all__ = ["Scratch"]


class Scratch:
    """Memory for the values of a block, written over by those of the next one.

    An allocator gives each block other memory, which is not in the cache as that of the last one is, though this is
    free again; and what is kept of one comes to lie between its temporaries, so that those of the next do not fit in.
    """

    def __init__(self, elements: int) -> None:
        self._elements: Final = elements
        self._memory: dict[Hashable, Any] = {}
        # Blocks of one shape and dtype come one after another: what is done to them is found once.
        self._found: dict[Hashable, Callable[..., Any]] = {}

    def widen(self, x: Array, dtype: OperationDtype, *, copy: bool = False) -> Any:
        """Do what `widen` of the namespace does to a block; what it makes lies here, where the library can do so."""
        which = x.shape, x.dtype, dtype, copy
        found = self._found.get(which)
        if found is None:
            memory = self._like(x, dtype) if copy or dtype_name(x) != dtype else None
            own = functools.partial(widen, dtype=dtype, copy=copy)
            found = self._found[which] = own if memory is None else conversion_into(memory)
        return found(x)

    def magnitude_words(self, x: Array) -> Any:
        """Do what `magnitude_words` of the namespace does to a block, of which they lie here."""
        which = x.shape, x.dtype
        found = self._found.get(which)
        if found is None:
            memory = self._like(x, word_dtype(x))
            found = self._found[which] = magnitude_words if memory is None else magnitude_words_into(memory)
        return found(x)

    def add(self, x: Array, y: Array, *, place: int) -> Any:
        """Return the sum of a block and what is broadcast to it.

        `place` numbers the memory of the sum, which must not be that of `x`.
        """
        which = x.shape, place
        found = self._found.get(which)
        if found is None:
            memory = self._like(x, dtype_name(x), place)
            found = operator.add if memory is None else functools.partial(array_namespace(x).add, out=memory)
            self._found[which] = found
        return found(x, y)

    def _like(self, x: Array, dtype: str, place: int | None = None) -> Any:
        """Return the memory in the shape of a block, None where the library has none to write to."""
        if (dtype, place) not in self._memory:
            self._memory[dtype, place] = scratch_memory(x, self._elements, dtype)
        memory = self._memory[dtype, place]
        return memory if memory is None else array_namespace(memory).reshape(memory[: math.prod(x.shape)], x.shape)
