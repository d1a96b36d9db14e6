"""Everything that enters Numba's internals or llvmlite: compilation, bits, storage, arithmetic, memory, atomics."""
