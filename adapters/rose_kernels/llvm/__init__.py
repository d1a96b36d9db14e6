"""Everything that enters Numba's internals or llvmlite: compilation, and the operations that Numba lacks."""
