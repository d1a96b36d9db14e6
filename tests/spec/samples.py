"""A few vectors of every kind, with the answers of the oracle."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rose_spec.cases import digest, generated_cases
from rose_spec.noise import noise_words
from rose_spec.oracle import Rule, Tensor
from rose_spec.trajectory import Trajectory, update_by_oracle
from rose_spec.vectors import Vector, number_to_json, options_from_json, tensor_to_json

__all__ = ["samples", "write_vectors"]

MATRIX = (0.5, -1.25, 3.0, 0.125, 7.0, -2.5)


def tensor(dtype: str, shape: Sequence[int], values: Sequence[float]) -> Tensor:
    return Tensor(dtype, tuple(shape), tuple(values))


def options_of(options: Mapping[str, Any]) -> dict[str, Any]:
    return {k: number_to_json(v) if isinstance(v, float) else v for k, v in options.items()}


def question(param: Tensor, grad: Tensor, noise: Sequence[int] | None, options: Mapping[str, Any]) -> dict[str, Any]:
    arrays = {"param": tensor_to_json(param, canonical=False), "grad": tensor_to_json(grad, canonical=False)}
    asked: dict[str, Any] = {**arrays, "options": options_of({"lr": 0.5, **options})}
    return asked if noise is None else {**asked, "noise": [f"{word:04x}" for word in noise]}


def step(
    name: str, clauses: str, param: Tensor, grad: Tensor, noise: Sequence[int] | None = None, **options: Any
) -> Vector:
    """Return a step with the oracle's answer."""
    asked = question(param, grad, noise, options)
    answer = Rule(options_from_json(asked["options"])).update(param, grad, noise).param
    return Vector(name, "step", tuple(clauses.split()), (), asked, {"param": tensor_to_json(answer)})


def refusal(
    name: str, clauses: str, param: Tensor, grad: Tensor, noise: Sequence[int] | None = None, **options: Any
) -> Vector:
    """Return a step that must be refused."""
    return Vector(name, "refusal", tuple(clauses.split()), (), question(param, grad, noise, options), {"refused": True})


def samples() -> list[Vector]:
    """Return all sample vectors."""
    matrix, ones = tensor("float32", (2, 3), MATRIX), tensor("float32", (2, 3), [1.0] * 6)
    scalar, vector = tensor("float64", (), [2.0]), tensor("float64", (3,), [1.0, -0.0, 4.0])
    brain, short = tensor("bfloat16", (2, 3), MATRIX), tensor("float16", (2, 3), MATRIX)
    words = [0, 0xFFFF, 0x8000, 1, 0x1234, 0xABCD]
    diverged = Tensor.from_words("float32", (2,), [0x7FFFFFFF, 0x3F800000])
    return [
        step("step-matrix", "ROSE-4.2 ROSE-5.4", ones, matrix, weight_decay=0.0),
        step("step-defaults", "ROSE-3.1 ROSE-10.1", ones, matrix),
        step("step-reference", "ROSE-3.3", ones, matrix, lr_reference=0.75, weight_decay=0.1),
        step("step-fp32", "ROSE-2.1", ones, matrix, compute_dtype="fp32", centralize=False, stabilize=False),
        step("step-fp16", "ROSE-2.2", short, short, compute_dtype=" Float16 "),
        step("step-none", "ROSE-2.5", short, short, compute_dtype=None, weight_decay=None),
        step("step-other-grad", "ROSE-1.1", ones, brain),
        step("step-maximize", "ROSE-1.3", ones, matrix, maximize=True),
        step("step-scalar", "ROSE-6.2", scalar, tensor("float64", (), [-3.0])),
        step("step-vector", "ROSE-4.3", vector, vector, weight_decay=0.0),
        step("step-empty", "ROSE-1.4", tensor("float32", (0, 3), []), tensor("float32", (0, 3), [])),
        step("step-nearest", "ROSE-8.3", brain, brain),
        step("step-noise", "ROSE-8.1", brain, brain, words),
        step("step-nan-noise", "ROSE-8.2", tensor("bfloat16", (2,), [1.0, 1.0]), diverged, [0xFFFF, 0]),
        refusal("refuse-lr", "ROSE-11.1", ones, matrix, lr=-0.5),
        refusal("refuse-nan", "ROSE-11.1", ones, matrix, weight_decay=float("nan")),
        refusal("refuse-shape", "ROSE-11.2", ones, vector),
        refusal("refuse-narrow-noise", "ROSE-10.4", brain, brain, words, compute_dtype="bf16"),
        trajectory("trajectory-schedule", "ROSE-3.4", {"wd_schedule": True}, "float64"),
        trajectory("trajectory-noise", "ROSE-9.2", {"sr_seed": "000000000000002a"}, "bfloat16"),
        noise_vector("noise-words", "ROSE-9.3"),
        digest_vector("digest-few", "ROSE-12.1", 20),
        digest_vector("digest-many", "ROSE-12.1", 1001),
    ]


def trajectory(name: str, clauses: str, options: Mapping[str, Any], dtype: str) -> Vector:
    """Return three steps of two groups; the first has lr 0, and one lacks a gradient."""
    first, second = tensor(dtype, (2, 2), MATRIX[:4]), tensor(dtype, (3,), MATRIX[3:])
    of_group = {"options": {**options, "weight_decay": number_to_json(0.25)}}
    groups = [
        {**of_group, "params": [tensor_to_json(first), tensor_to_json(second)]},
        {**of_group, "max_lr": number_to_json(2.0), "params": [tensor_to_json(second)]},
    ]
    grads = [[tensor_to_json(first), tensor_to_json(second)], [tensor_to_json(second)]]
    steps = [
        {"lr": [number_to_json(lr), number_to_json(2 * lr)], "grads": [[grads[0][0], skipped], grads[1]]}
        for lr, skipped in ((0.0, grads[0][1]), (0.5, None), (0.25, grads[0][1]))
    ]
    asked = {"groups": groups, "steps": steps}
    answer = [[tensor_to_json(p) for p in group] for group in Trajectory(asked).run(update_by_oracle)]
    return Vector(name, "trajectory", tuple(clauses.split()), (), asked, {"params": answer})


def noise_vector(name: str, clauses: str) -> Vector:
    """Return a question about noise."""
    words = [f"{word:04x}" for word in noise_words(7, seed=2**63 + 5, step=3, index=1)]
    asked = {"count": 7, "seed": f"{2**63 + 5:016x}", "step": "00000003", "index": "00000001"}
    return Vector(name, "noise", tuple(clauses.split()), (), asked, {"words": words})


def digest_vector(name: str, clauses: str, count: int) -> Vector:
    """Return a digest; with many cases its answer is not computed, and wrong on purpose."""
    results = (update_by_oracle(case) for case in generated_cases(1, count if count < 100 else 0))  # type: ignore[arg-type]
    asked = {"generator": 1, "seed": "0000000000000001", "count": count}
    return Vector(name, "digest", tuple(clauses.split()), (), asked, {"sha256": digest(results)})


def write_vectors(folder: Path, vectors: Sequence[Vector]) -> list[Path]:
    """Write a vector file and return the list of files."""
    content = {"format": 1, "revision": "1.0.2", "title": "samples", "notes": {}, "vectors": [vars(v) for v in vectors]}
    file = folder / "samples.json"
    file.write_text(json.dumps(content))
    return [file]
