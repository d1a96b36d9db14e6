"""The seam to the array libraries: the only modules that ask which library an array belongs to.

The modules above it use the array-API standard (https://data-apis.org/array-api/latest/) and these functions. They
provide what the standard lacks: 16-bit storage, bit casts, and workarounds where a library departs from IEEE 754
(ROSE-1.5). Each workaround has its reason beside it.

NOTE: [divisors are arrays] On CUDA, torch turns a division by a Python number into a product with its reciprocal.
Every divisor is therefore an array.
"""

from rose_core.namespace.arrays import (
    Array,
    OperationDtype,
    array_namespace,
    dtype_name,
    floating_dtype,
    full,
    has_float16,
    has_float64,
    library,
    quiet,
    require_array,
    require_integer_words,
    require_like,
    stores_bfloat16,
)
from rose_core.namespace.bits import (
    bfloat16_from_float32_bits,
    float32_bits,
    float32_from_bits,
    right_shifted,
    to_word,
    to_words,
)
from rose_core.namespace.floats import as_float64, convert, detached, square_root, square_roots

__all__ = [
    "Array",
    "OperationDtype",
    "array_namespace",
    "as_float64",
    "bfloat16_from_float32_bits",
    "convert",
    "detached",
    "dtype_name",
    "float32_bits",
    "float32_from_bits",
    "floating_dtype",
    "full",
    "has_float16",
    "has_float64",
    "library",
    "quiet",
    "require_array",
    "require_integer_words",
    "require_like",
    "right_shifted",
    "square_root",
    "square_roots",
    "stores_bfloat16",
    "to_word",
    "to_words",
]
