"""The seam to the array libraries: the only modules that ask which library an array belongs to.

The modules above it use the array-API standard (https://data-apis.org/array-api/latest/) and these
functions. What is here is what the standard does not give: 16-bit storage, bit casts, and the places
where a library departs from IEEE 754 (ROSE-1.5). Each of those has its reason beside it.
"""

from rose_core.namespace.arithmetic import (
    AddScaledQuotient,
    add_scaled_quotient,
    divided,
    scaled_quotient_adder,
    square_root,
)
from rose_core.namespace.conversion import (
    comparable,
    conversion_into,
    narrow,
    narrows_in_writing,
    scratch_memory,
    widen,
)
from rose_core.namespace.lookup import (
    Array,
    OperationDtype,
    array_namespace,
    device,
    dtype_name,
    has_float16,
    has_float64,
    kind,
    quiet,
    scalar,
    without_history,
)
from rose_core.namespace.memory import (
    as_array_beside,
    as_light_array,
    block_elements,
    has_light_arrays,
    keep_freed_memory,
    sent_beside,
)
from rose_core.namespace.requirements import floating_dtype, require_array, require_integer_words, require_same_place
from rose_core.namespace.words import (
    bfloat16_from_float32_bits,
    float32_bits,
    float32_bits_with_one_nan,
    float32_from_bits,
    half_words,
    magnitude_words,
    magnitude_words_into,
    to_words,
    word_dtype,
)

__all__ = [
    "AddScaledQuotient",
    "Array",
    "OperationDtype",
    "add_scaled_quotient",
    "array_namespace",
    "as_array_beside",
    "as_light_array",
    "bfloat16_from_float32_bits",
    "block_elements",
    "comparable",
    "conversion_into",
    "device",
    "divided",
    "dtype_name",
    "float32_bits",
    "float32_bits_with_one_nan",
    "float32_from_bits",
    "floating_dtype",
    "half_words",
    "has_float16",
    "has_float64",
    "has_light_arrays",
    "keep_freed_memory",
    "kind",
    "magnitude_words",
    "magnitude_words_into",
    "narrow",
    "narrows_in_writing",
    "quiet",
    "require_array",
    "require_integer_words",
    "require_same_place",
    "scalar",
    "scaled_quotient_adder",
    "scratch_memory",
    "sent_beside",
    "square_root",
    "to_words",
    "widen",
    "without_history",
    "word_dtype",
]
