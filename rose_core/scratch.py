"""Memory that the values of one block after another lie in."""

import math
from typing import Any, Final

from rose_core.namespace import Array, OperationDtype, array_namespace, convert_into, dtype_name, scratch_memory, widen

__all__ = ["Scratch"]


class Scratch:
    """Memory for the values of a block, written over by those of the next one.

    An allocator gives each block other memory, which is not in the cache as that of the last one is, though this is
    free again.
    """

    def __init__(self, elements: int) -> None:
        self._elements: Final = elements
        self._memory: dict[OperationDtype, Any] = {}
        self._views: dict[tuple[tuple[int, ...], OperationDtype], Any] = {}

    def widen(self, x: Array, dtype: OperationDtype, *, copy: bool = False) -> Any:
        """Do what `widen` of the namespace does to a block; what it makes lies here, where the library can do so."""
        if dtype_name(x) == dtype and not copy:
            return widen(x, dtype)
        view = self._views.get((x.shape, dtype))
        if view is None:
            if dtype not in self._memory:
                self._memory[dtype] = scratch_memory(x, self._elements, dtype)
            memory = self._memory[dtype]
            if memory is None:
                return widen(x, dtype, copy=copy)
            view = array_namespace(memory).reshape(memory[: math.prod(x.shape)], x.shape)
            self._views[x.shape, dtype] = view
        return convert_into(view, x)
