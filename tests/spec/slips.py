"""Rose in NumPy, written from SPEC.md, and the same port with one slip: each is a function for `--python`."""

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

__all__ = ["SLIPS", "Port", "noise_slips"]

TYPES: dict[str, Any] = {"float64": np.float64, "float32": np.float32, "float16": np.float16}
TYPES["bfloat16"] = ml_dtypes.bfloat16
DTYPES = {**TYPES, **dict(zip(("fp64", "fp32", "fp16", "bf16"), TYPES.values(), strict=True))}


class Port:
    """The right port. A slip overrides one of its methods."""

    def __call__(
        self, param: Any, grad: Any, *, lr: float, weight_decay: float | None = 1e-4, lr_reference: float | None = None,
        centralize: bool = True, stabilize: bool = True, compute_dtype: str | None = "fp64", maximize: bool = False,
        max_step: float | None = None, noise: Any = None,
    ) -> Any:  # fmt: skip
        self.check(param, grad, lr, weight_decay, lr_reference, compute_dtype, noise)
        if max_step is not None and not max_step > 0.0:
            raise ValueError(f"max_step is {max_step}")
        self.limit = math.inf if max_step in (None, math.inf) else lr * max_step
        with np.errstate(all="ignore"):
            self.choose(param.dtype, compute_dtype, noise)
            x, g = self.load(param), self.load(-grad if maximize else grad)
            if weight_decay and param.size:
                rate = lr if lr_reference is None else lr / lr_reference
                x = self.rc(x * self.operation(self.decay(rate, weight_decay)))
            if param.ndim == 0:
                sign = np.where(np.isnan(g), g, np.sign(g) + 0.0)
                x = self.rc(x + self.limited(sign.astype(self.operation) * self.rc(self.operation(-self.rate(lr)))))
            elif param.size:
                rows = g.reshape(1 if param.ndim == 1 else param.shape[0], -1)
                matrix = param.ndim > 1
                step = self.step(rows, lr, centralize and matrix, stabilize and matrix)
                x = self.rc(x.reshape(rows.shape) + self.limited(step))
            return self.store(x.reshape(param.shape), param.dtype, noise)

    def check(self, param: Any, grad: Any, lr: Any, decay: Any, reference: Any, name: Any, noise: Any) -> None:
        for option, value, least in (("lr", lr, -1.0), ("weight_decay", decay or 0.0, -1.0)):
            if not (value > least and 0.0 <= value < math.inf):
                raise ValueError(f"{option} is {value}")
        if reference is not None and not 0.0 < reference < math.inf:
            raise ValueError(f"lr_reference is {reference}")
        name = str(name).strip().lower()
        if name not in (*DTYPES, "none", "null") or (noise is not None and name.endswith("16")):
            raise ValueError(f"compute_dtype is {name}")
        if param.shape != grad.shape or (noise is not None and param.dtype != DTYPES["bf16"]):
            raise ValueError("shape or noise")

    def choose(self, dtype: Any, name: str | None, noise: Any) -> None:
        self.compute = DTYPES.get(str(name).strip().lower()) or (np.float32 if noise is not None else dtype.type)
        self.operation: Any = np.float64 if self.compute is np.float64 else np.float32

    def limited(self, change: Any) -> Any:
        limit = self.operation(self.limit)
        return np.where(change > limit, limit, np.where(change < -limit, -limit, change))

    def rc(self, value: Any) -> Any:
        return np.asarray(value).astype(self.operation).astype(self.compute).astype(self.operation)

    def load(self, value: Any) -> Any:
        return self.rc(value)

    def decay(self, rate: float, weight_decay: float) -> float:
        return max(0.0, 1.0 - rate * weight_decay)

    def rate(self, lr: float) -> float:
        return lr

    def step(self, rows: Any, lr: float, centralize: bool, stabilize: bool) -> Any:
        low, high = rows.min(1), rows.max(1)
        if centralize:
            mean = self.rc(np.asarray([self.sum(row) for row in rows.astype(np.float64)]) / rows.shape[1])
            mean = np.minimum(np.maximum(mean, low), high) + self.operation(0)
            rows = self.rc(rows - mean[:, None])
            low, high = self.rc(low - mean), self.rc(high - mean)
        d = r = self.rc(abs(high) - low)
        if stabilize:
            wide = r.astype(np.float64)
            mean64 = self.sum(wide) / np.float64(len(wide))
            var64 = self.sum((wide - mean64) * (wide - mean64)) / np.float64(len(wide))
            mean, std = self.rc(mean64), self.rc(self.root(var64))
            w = self.rc(mean / (np.ones_like(mean) if mean == 0 else self.rc(std + mean)))
            d = self.rc(mean + w * (r - mean) if w < 0.5 else r - (r - mean) * (self.operation(1) - w))
        return self.scaled(lr, rows) / np.where(d == 0, self.operation(1), d)[:, None]

    def scaled(self, lr: float, rows: Any) -> Any:
        return self.operation(-self.rate(lr)) * rows

    def root(self, value: Any) -> Any:
        return np.sqrt(value)

    def sum(self, values: Any) -> Any:
        return self.folded(values)

    def folded(
        self, x: Any, *, length: int = 0, least: int = 2, folds: int = 2, half: float = 1.5, shift: int = 54
    ) -> Any:
        bits = max(least, ((length or len(x)) - 1).bit_length())
        largest = np.max(abs(x))
        s = half * 2.0**bits * ((largest - np.nextafter(largest, 0.0)) * 2.0**52)
        sums = []
        for _ in range(folds):
            q = (x + s) - s
            x, s = x - q, s * 2.0 ** (bits - shift)
            sums.append(np.add.reduce(q))
        return sums[0] + sum(sums[1:]) + 0.0

    def store(self, x: Any, dtype: Any, noise: Any) -> Any:
        if dtype == np.float64:
            return x.astype(np.float64)
        narrow = x.astype(np.float32)
        if noise is None:
            return narrow.astype(dtype)
        return self.stochastic(narrow, noise.astype(np.uint32))

    def stochastic(self, narrow: Any, noise: Any) -> Any:
        words = (narrow.view(np.uint32) + noise) >> np.uint32(16)
        words = np.where(np.isnan(narrow), np.uint32(0x7FC0), words).astype(np.uint16)
        return words.view(ml_dtypes.bfloat16)


class LoadedInOneRounding(Port):
    def load(self, value: Any) -> Any:
        return np.asarray(to_16_bits(value, self.compute)).astype(self.operation)


class StoredInOneRounding(Port):
    def store(self, x: Any, dtype: Any, noise: Any) -> Any:
        return super().store(x, dtype, noise) if noise is not None else to_16_bits(x, dtype.type)


def to_16_bits(value: Any, dtype: Any) -> Any:
    """Round float64 directly to a dtype: ml_dtypes would go through float32, so the tie is moved first."""
    wide = np.asarray(value)
    if wide.dtype != np.float64 or dtype is not ml_dtypes.bfloat16:
        return wide.astype(dtype)
    narrow = wide.astype(np.float32)
    # If float32 rounded to a tie, one float32 further from it in the direction of the float64.
    words = narrow.view(np.uint32)
    moved = np.where(abs(wide) > abs(narrow.astype(np.float64)), words + np.uint32(1), words - np.uint32(1))
    is_moved = (narrow.astype(np.float64) != wide) & (words & np.uint32(0xFFFF) == 0x8000)
    return np.where(is_moved, moved, words).astype(np.uint32).view(np.float32).astype(dtype)


class DecayInFloat32(Port):
    def decay(self, rate: float, weight_decay: float) -> float:
        return float(max(np.float32(0), np.float32(1) - np.float32(rate) * np.float32(weight_decay)))


class LrInFloat32(Port):
    def rate(self, lr: float) -> float:
        return float(np.float32(lr))


class LrRoundedToCompute(Port):
    def scaled(self, lr: float, rows: Any) -> Any:
        return self.rc(self.operation(-lr)) * rows


class RootInFloat32(Port):
    def root(self, value: Any) -> Any:
        return np.float64(np.sqrt(np.float32(value)))


class SumsInFloat32(Port):
    def sum(self, values: Any) -> Any:
        return np.float64(np.sum(values.astype(np.float32)))


class SumsOfNumpy(Port):
    def sum(self, values: Any) -> Any:
        return np.sum(values)


class ExactSums(Port):
    def sum(self, values: Any) -> Any:
        return np.float64(math.fsum(values)) if np.isfinite(values).all() else np.float64(math.nan)


class LevelOfN(Port):
    def sum(self, values: Any) -> Any:
        return self.folded(values, length=len(values) + 1)


class LevelWithoutLimit(Port):
    def sum(self, values: Any) -> Any:
        return self.folded(values, least=0)


class OneFold(Port):
    def sum(self, values: Any) -> Any:
        return self.folded(values, folds=1)


class WithoutHalf(Port):
    def sum(self, values: Any) -> Any:
        return self.folded(values, half=1.0)


class Shift53(Port):
    def sum(self, values: Any) -> Any:
        return self.folded(values, shift=53)


class NanUnguarded(Port):
    def stochastic(self, narrow: Any, noise: Any) -> Any:
        return ((narrow.view(np.uint32) + noise) >> np.uint32(16)).astype(np.uint16).view(ml_dtypes.bfloat16)


class NoneIsFloat32(Port):
    def choose(self, dtype: Any, name: str | None, noise: Any) -> None:
        super().choose(dtype, name, noise)
        if str(name).strip().lower() in ("none", "null"):
            self.compute = self.operation = np.float32


# The class of each slip, and the sentence of the diagnosis that must name it.
SLIPS: dict[str, tuple[type[Port], str]] = {
    "loaded in one rounding": (LoadedInOneRounding, "is rounded directly to 16 bits (ROSE-2.3)"),
    "stored in one rounding": (StoredInOneRounding, "a float64 result is rounded directly to 16 bits (ROSE-2.3)"),
    "decay in float32": (DecayInFloat32, "the decay factor is computed in float32 (ROSE-3.2)"),
    "lr in float32": (LrInFloat32, "lr is rounded to float32 in the step (ROSE-2.4)"),
    "lr rounded to C": (LrRoundedToCompute, "lr is rounded to the compute dtype (ROSE-2.4)"),
    "root in float32": (RootInFloat32, "the square root is computed in float32 (ROSE-5.2)"),
    "sums in float32": (SumsInFloat32, "sums add in the order of NumPy in float32 (ROSE-7.2)"),
    "sums of NumPy": (SumsOfNumpy, "sums add in the order of NumPy in float64 (ROSE-7.1)"),
    "exact sums": (ExactSums, "sums are exact, and rounded once (ROSE-7.2)"),
    "L of n": (LevelOfN, "the reproducible sum takes L from bit_length(n), not bit_length(n - 1) (ROSE-7.2)"),
    "L without a limit": (LevelWithoutLimit, "the reproducible sum has no lower limit of 2 for L (ROSE-7.2)"),
    "one fold": (OneFold, "the reproducible sum has only one fold (ROSE-7.2)"),
    "s without 1.5": (WithoutHalf, "the reproducible sum starts with s = 2**L * P, without the factor 1.5 (ROSE-7.2)"),
    "shift of 53": (Shift53, "the reproducible sum continues with s * 2**(L - 53), not 2**(L - 54) (ROSE-7.2)"),
    "NaN unguarded": (NanUnguarded, "stochastic rounding adds the noise to the word of a NaN too (ROSE-8.2)"),
    "none is float32": (NoneIsFloat32, "compute dtype none is read as float32 (ROSE-2.5)"),
}


def noise_slips(right: Callable[..., list[int]]) -> dict[str, tuple[Callable[..., list[int]], str]]:
    """Return wrong functions of the noise, given the right one, and the sentences of the diagnosis."""

    def blocks(order: tuple[int, ...]) -> Callable[..., list[int]]:
        def words(shape: tuple[int], *, seed: int, step: int, index: int, like: Any) -> list[int]:
            whole = [int(w) for w in right((shape[0] + 3,), seed=seed, step=step, index=index, like=like)]
            return [whole[i // 4 * 4 + order[i % 4]] for i in range(shape[0])]

        return words

    def changed(change: Callable[[int, int, int], tuple[int, int, int]]) -> Callable[..., list[int]]:
        def words(shape: tuple[int], *, seed: int, step: int, index: int, like: Any) -> list[int]:
            seed, step, index = change(seed, step, index)
            return right(shape, seed=seed, step=step, index=index, like=like)

        return words

    low = 2**32
    return {
        "step and index swapped": (
            changed(lambda seed, step, index: (seed, index, step)),
            "the noise swaps step and index (ROSE-9.2)",
        ),
        "seed halves swapped": (
            changed(lambda seed, step, index: (seed % low * low + seed // low, step, index)),
            "the noise swaps the halves of the seed (ROSE-9.2)",
        ),
        "seed cut": (
            changed(lambda seed, step, index: (seed % low, step, index)),
            "the noise uses only the lower 32 bits of the seed (ROSE-9.2)",
        ),
        "high half first": (blocks((1, 0, 3, 2)), "the upper half of each word of the noise comes first (ROSE-9.3)"),
        "second word first": (
            blocks((2, 3, 0, 1)),
            "the second word of each block of the noise comes first (ROSE-9.3)",
        ),
        "interleaved": (
            blocks((0, 2, 1, 3)),
            "the lower halves of both words of a block come before the upper halves (ROSE-9.3)",
        ),
    }
