"""Generated steps for the digests, thousands of them from a seed.

Case number i of a seed is drawn from Threefry words (ROSE-9.1) with the seed as the key. It is the same on every
machine, and does not depend on the cases before it. The cases of a generator never change: new kinds of cases need a
new generator number.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from rose_spec.floats import BFLOAT16, FLOAT64, FORMATS, Format, cast
from rose_spec.noise import threefry2x32
from rose_spec.oracle import Tensor
from rose_spec.vectors import number_to_json, words_to_json

__all__ = ["GENERATOR", "Case", "digest", "generated_case", "generated_cases"]

GENERATOR: Final = 1

T = TypeVar("T")

SHAPES: Final = (
    *((), (), (1,), (2,), (5,), (7,)),
    *((1, 1), (3, 1), (1, 4), (2, 2), (3, 2), (4, 2), (2, 5), (4, 3), (0, 3)),
    *((2, 3, 1), (2, 1, 2), (3, 2, 2), (4, 1, 1), (1, 2, 2, 2), (2, 2, 1, 2), (2, 1, 3, 2)),
)
LEARNING_RATES: Final = (0.0, 1e-3, 1e-3, 3e-3, 3e-5, 0.1, 0.3, 0.5, 1.0, 2.0, 7.0, 1e-45, 1e30)
# The value "absent" leaves an option out.
WEIGHT_DECAYS: Final = ("absent", "absent", None, 0.0, 1e-4, 1e-2, 0.1, 0.75, 1.0, 1e4)
REFERENCES: Final = ("absent", "absent", "absent", None, 1e-3, 0.5, 0.1, 7.0)
COMPUTE_DTYPES: Final = ("absent", "absent", "fp64", "fp32", "fp32", "fp16", "bf16", None)
FLAGS: Final = ("absent", "absent", True, False)
# Half of the gradients have the dtype of their parameter.
GRAD_DTYPES: Final = ("same",) * 4 + tuple(FORMATS)


@dataclass(frozen=True)
class Case:
    """One step: the arrays, the options in the form of JSON, and the noise if rounding is stochastic."""

    param: Tensor
    grad: Tensor
    options: Mapping[str, Any]
    noise: list[int] | None


class Source:
    """The stream of random words of one case."""

    def __init__(self, seed: int, index: int) -> None:
        self.key = threefry2x32((seed & 0xFFFFFFFF, seed >> 32), (index, 0))
        self.block = 0
        self.left: list[int] = []

    def word(self) -> int:
        """Return the next 32 bits."""
        if not self.left:
            self.left = list(threefry2x32(self.key, (self.block, 1)))
            self.block += 1
        return self.left.pop()

    def below(self, bound: int) -> int:
        """Return an integer in [0, bound)."""
        return self.word() * bound >> 32

    def choose(self, options: Sequence[T]) -> T:
        """Return one of the options."""
        return options[self.below(len(options))]


def generated_cases(seed: int, count: int) -> Iterator[Case]:
    """Yield the first `count` cases of a seed."""
    return (generated_case(seed, index) for index in range(count))


def generated_case(seed: int, index: int) -> Case:
    """Return one case of a seed."""
    source = Source(seed, index)
    shape = source.choose(SHAPES)
    dtype = source.choose(tuple(FORMATS))
    grad_dtype = source.choose(GRAD_DTYPES)
    options = _options(source)
    param = _tensor(source, dtype, shape)
    grad = _tensor(source, dtype if grad_dtype == "same" else grad_dtype, shape)
    # ROSE-8.4 and ROSE-10.4 say which steps have noise.
    stochastic = dtype == "bfloat16" and options.get("compute_dtype") not in ("fp16", "bf16") and source.below(4) > 0
    noise = [source.word() & 0xFFFF for _ in param.values] if stochastic else None
    return Case(param, grad, options, noise)


def digest(results: Iterable[Tensor]) -> str:
    """Return the SHA-256 of the big-endian words of all results; every NaN is made canonical."""
    total = hashlib.sha256()
    for tensor in results:
        total.update(bytes.fromhex("".join(words_to_json(tensor.dtype, tensor.values))))
    return total.hexdigest()


def _options(source: Source) -> dict[str, Any]:
    drawn = {
        "weight_decay": source.choose(WEIGHT_DECAYS),
        "lr_reference": source.choose(REFERENCES),
        "centralize": source.choose(FLAGS),
        "stabilize": source.choose(FLAGS),
        "compute_dtype": source.choose(COMPUTE_DTYPES),
        "maximize": source.choose(FLAGS),
    }
    numbers = {"lr": source.choose(LEARNING_RATES), **drawn}
    return {
        name: number_to_json(value) if isinstance(value, float) else value
        for name, value in numbers.items()
        if value != "absent"
    }


def _tensor(source: Source, dtype: str, shape: tuple[int, ...]) -> Tensor:
    """Return an array whose values are of one kind, apart from a few edge values."""
    form = FORMATS[dtype]
    kind = source.choose((_ordinary, _ordinary, _ordinary, _integer, _integer, _constant, _tiny, _edge, _word))
    scale = 2.0 ** (source.below(17) - 8)
    values = []
    for _ in range(math.prod(shape)):
        draw = _edge if source.below(64) == 0 else kind
        values.append(cast(draw(source, form, scale), form))
    return Tensor(dtype, shape, tuple(values))


def _ordinary(source: Source, form: Format, scale: float) -> float:  # noqa: ARG001  (one signature for all kinds)
    """Return a roughly normal value, the sum of four uniform ones."""
    first, second = source.word(), source.word()
    total = (first & 0xFFFF) + (first >> 16) + (second & 0xFFFF) + (second >> 16) - 2 * 0xFFFF
    return total * 2.0**-16 * scale + source.word() * 2.0**-48 * scale


def _integer(source: Source, form: Format, scale: float) -> float:  # noqa: ARG001
    """Return a small integer multiple of the scale, so that values repeat and cancel."""
    return (source.below(9) - 4) * scale


def _constant(source: Source, form: Format, scale: float) -> float:  # noqa: ARG001
    """Return the same value each time; its mean is never exact."""
    return 0.7 * scale


def _tiny(source: Source, form: Format, scale: float) -> float:  # noqa: ARG001
    """Return a subnormal of the format, or a small normal."""
    return math.ldexp(source.below(2049) - 1024, form.last_place)


def _edge(source: Source, form: Format, scale: float) -> float:  # noqa: ARG001
    """Return an edge value; for float64 up to 2**1000, since larger sums may overflow (ROSE-7.3)."""
    largest = 2.0**1000 if form is FLOAT64 else form.decode(form.encode(math.inf) - 1)
    normal, quantum = math.ldexp(1.0, 1 - form.bias), math.ldexp(1.0, form.last_place)
    edges = (0.0, 0.0, 1.0, 1.0, quantum, normal, normal - quantum, largest, math.inf, math.nan)
    return (-1.0 if source.below(2) else 1.0) * source.choose(edges)


def _word(source: Source, form: Format, scale: float) -> float:  # noqa: ARG001
    """Return the value of a random word; for float64 a word of bfloat16, since larger sums may overflow (ROSE-7.3)."""
    narrow = BFLOAT16 if form is FLOAT64 else form
    return narrow.decode(source.word() >> (32 - narrow.width))
