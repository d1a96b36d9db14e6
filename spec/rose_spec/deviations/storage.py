"""Deviations of dtypes, of rounding (ROSE-2, ROSE-8) and of portable noise (ROSE-9)."""

import math
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from rose_spec.deviations.deviation import known_as
from rose_spec.floats import BFLOAT16, FLOAT32, FLOAT64, FORMATS, cast
from rose_spec.oracle import Rule, Step, Tensor
from rose_spec.trajectory import Group

__all__ = ["STORAGE"]


class Float32ForFloat64(Rule):
    def choose_formats(self, dtype: str, *, stochastic: bool) -> None:
        super().choose_formats(dtype, stochastic=stochastic)
        if self.compute is FLOAT64:
            self.compute = self.operation = FLOAT32


class ComputeDtypeIgnored(Rule):
    def choose_formats(self, dtype: str, *, stochastic: bool) -> None:  # noqa: ARG002
        self.compute = self.operation = FLOAT64


class ComputeDtypeIsNone(Rule):
    def choose_formats(self, dtype: str, *, stochastic: bool) -> None:
        given, self.options = self.options, replace(self.options, compute_dtype=None)
        super().choose_formats(dtype, stochastic=stochastic)
        self.options = given


class LinesNotRounded(Rule):
    def rc(self, value: float) -> float:
        return cast(value, self.operation)


class OperationsRounded(Rule):
    def choose_formats(self, dtype: str, *, stochastic: bool) -> None:
        super().choose_formats(dtype, stochastic=stochastic)
        self.operation = self.compute


class DirectlyTo16Bits(Rule):
    def to_compute(self, value: float) -> float:
        return self.rc(value)

    def store(self, x: list[float], dtype: str, noise: Sequence[int] | None) -> list[float]:
        return super().store(x, dtype, noise) if noise else [cast(v, FORMATS[dtype]) for v in x]


class LoadedDirectly(Rule):
    def load(self, value: float) -> float:
        return self.rc(value)


class StoredDirectly(Rule):
    def store(self, x: list[float], dtype: str, noise: Sequence[int] | None) -> list[float]:
        return super().store(x, dtype, noise) if noise else [cast(v, FORMATS[dtype]) for v in x]


class NoneIsFloat32(Rule):
    def choose_formats(self, dtype: str, *, stochastic: bool) -> None:
        super().choose_formats(dtype, stochastic=stochastic)
        if str(self.options.compute_dtype).strip().lower() in ("none", "null"):
            self.compute = self.operation = FLOAT32


class NoneIsFloat64(Rule):
    def choose_formats(self, dtype: str, *, stochastic: bool) -> None:
        super().choose_formats(dtype, stochastic=stochastic)
        if str(self.options.compute_dtype).strip().lower() in ("none", "null"):
            self.compute = self.operation = FLOAT64


class NoneStaysBfloat16(Rule):
    def choose_formats(self, dtype: str, *, stochastic: bool) -> None:  # noqa: ARG002
        super().choose_formats(dtype, stochastic=False)


class SubnormalsFlushed(Rule):
    def update(self, param: Tensor, grad: Tensor, noise: Sequence[int] | None = None) -> Step:
        step = super().update(_flushed(param), _flushed(grad), noise)
        return replace(step, param=_flushed(step.param))


def _flushed(tensor: Tensor) -> Tensor:
    """Return an array with the subnormals of float32 replaced by 0."""
    if tensor.dtype not in ("float32", "bfloat16"):
        return tensor
    least = 2.0**-126
    return replace(tensor, values=tuple(math.copysign(0.0, v) if abs(v) < least else v for v in tensor.values))


class Truncated(Rule):
    def store(self, x: list[float], dtype: str, noise: Sequence[int] | None) -> list[float]:
        zeros = [0] * len(x)
        return super().store(x, dtype, zeros if dtype == "bfloat16" and noise is None else noise)


class NearestForStochastic(Rule):
    def store(self, x: list[float], dtype: str, noise: Sequence[int] | None) -> list[float]:  # noqa: ARG002
        return super().store(x, dtype, None)


class NoiseWithoutCarry(Rule):
    def round_stochastically(self, value: float, word: int) -> float:  # noqa: ARG002
        return super().round_stochastically(value, 0)


class NoiseCompared(Rule):
    def round_stochastically(self, value: float, word: int) -> float:
        return super().round_stochastically(value, 0xFFFF - word)


class StochasticSaturates(Rule):
    def round_stochastically(self, value: float, word: int) -> float:
        rounded, largest = super().round_stochastically(value, word), BFLOAT16.decode(0x7F7F)
        return math.copysign(largest, rounded) if math.isinf(rounded) and math.isfinite(value) else rounded


class NanUnguarded(Rule):
    def round_stochastically(self, value: float, word: int) -> float:
        if not math.isnan(value):
            return super().round_stochastically(value, word)
        return BFLOAT16.decode((FLOAT32.encode(value, canonical=False) + word & 0xFFFFFFFF) >> 16)


class NanCarried(Rule):
    def update(self, param: Tensor, grad: Tensor, noise: Sequence[int] | None = None) -> Step:
        given = [v for v in (*param.values, *grad.values) if math.isnan(v)]
        self.carries = any(struct.unpack(">Q", struct.pack(">d", v))[0] >> 29 & 0x7FFFFF == 0x7FFFFF for v in given)
        return super().update(param, grad, noise)

    def round_stochastically(self, value: float, word: int) -> float:
        if math.isnan(value) and self.carries:
            return BFLOAT16.decode((0x7FFFFFFF + word & 0xFFFFFFFF) >> 16)
        return super().round_stochastically(value, word)


class NoiseOfFirstParameter(Group):
    def noise(self, position: int) -> list[int] | None:
        first_index = self.first_index
        try:
            self.first_index = -position
            return super().noise(position)
        finally:
            self.first_index = first_index


class NoiseIndexByGroup(Group):
    def noise(self, position: int) -> list[int] | None:
        self.first_index = 0
        return super().noise(position)


class NoiseOfFirstStep(Group):
    def count_step(self) -> None:
        """Count no step."""


class NoiseCountsEveryStep(Group):
    def count_step(self) -> None:
        self.steps += 1


STORAGE: Final = (
    known_as("float32-for-float64", "float32 is used for the compute dtype float64", "ROSE-2.1", Float32ForFloat64),
    known_as(
        "compute-dtype-ignored",
        "every compute dtype is treated as float64",
        "ROSE-2.1",
        ComputeDtypeIgnored,
    ),
    known_as("compute-dtype-is-own", "every compute dtype is treated as none", "ROSE-2.1", ComputeDtypeIsNone),
    known_as(
        "16-bit-lines-not-rounded",
        "intermediate values are not rounded to a 16-bit compute dtype",
        "ROSE-2.2",
        LinesNotRounded,
    ),
    known_as(
        "16-bit-operations-rounded",
        "every operation is rounded to a 16-bit compute dtype",
        "ROSE-2.2",
        OperationsRounded,
    ),
    known_as(
        "directly-to-16-bits",
        "float64 is rounded directly to 16 bits",
        "ROSE-2.3",
        DirectlyTo16Bits,
    ),
    known_as(
        "loaded-directly",
        "a float64 parameter or gradient is rounded directly to 16 bits",
        "ROSE-2.3",
        LoadedDirectly,
    ),
    known_as("stored-directly", "a float64 result is rounded directly to 16 bits", "ROSE-2.3", StoredDirectly),
    known_as("none-is-float32", "compute dtype none is read as float32", "ROSE-2.5", NoneIsFloat32),
    known_as("none-is-float64", "compute dtype none is read as float64", "ROSE-2.5", NoneIsFloat64),
    known_as(
        "none-stays-bfloat16",
        "compute dtype none means bfloat16 even for stochastic rounding",
        "ROSE-2.5",
        NoneStaysBfloat16,
    ),
    known_as(
        "subnormals-flushed", "float32 and bfloat16 subnormals are read and written as 0", "ROSE-1.5", SubnormalsFlushed
    ),
    known_as("truncated", "bfloat16 is truncated, not rounded", "ROSE-8.3", Truncated),
    known_as(
        "nearest-for-stochastic",
        "bfloat16 is rounded to nearest instead of stochastically",
        "ROSE-8.1",
        NearestForStochastic,
    ),
    known_as("noise-without-carry", "the carry of the noise is lost, which truncates", "ROSE-8.1", NoiseWithoutCarry),
    known_as("noise-compared", "bfloat16 is rounded up if the noise is below the low bits", "ROSE-8.1", NoiseCompared),
    known_as(
        "stochastic-saturates",
        "stochastic rounding saturates at the largest finite value",
        "ROSE-8.1",
        StochasticSaturates,
    ),
    known_as(
        "nan-unguarded",
        "stochastic rounding adds the noise to the word of a NaN too",
        "ROSE-8.2",
        NanUnguarded,
    ),
    known_as("nan-carried", "stochastic rounding turns the NaN 7fffffff into -0", "ROSE-8.2", NanCarried),
    known_as(
        "noise-of-first-parameter",
        "all parameters get the noise of the first",
        "ROSE-9.2",
        NoiseOfFirstParameter,
    ),
    known_as(
        "noise-index-by-group",
        "the index of a parameter's noise starts at 0 in each group",
        "ROSE-9.2",
        NoiseIndexByGroup,
    ),
    known_as("noise-of-first-step", "all steps get the noise of the first", "ROSE-9.2", NoiseOfFirstStep),
    known_as(
        "noise-counts-every-step", "the noise also counts steps with an lr of 0", "ROSE-9.2", NoiseCountsEveryStep
    ),
)
