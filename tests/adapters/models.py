"""A small model with a parameter of each rank, and the model after a step of the core."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch

from rose_core import noise_words, update
from rose_core.namespace import dtype_name
from tests.backends import BACKENDS
from tests.bits import DTYPES, assert_same_bits

__all__ = [
    "OVERRIDES",
    "SHAPES",
    "assert_same_model",
    "core_run",
    "core_step",
    "grads",
    "model",
    "normal",
    "parameter",
    "tensor",
    "valid_groups",
    "with_grad",
]

SHAPES: Final[dict[str, tuple[int, ...]]] = {
    "scale": (),
    "bias": (5,),
    "unused": (0, 3),
    "weight": (4, 6),
    "kernel": (3, 2, 3, 3),
}

# For each option, a value other than the default, and the arguments of `core_step` with the same meaning.
OVERRIDES: Final[dict[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    "lr": ({"lr": 0.25}, {"lr": 0.25}),
    "weight_decay": ({"weight_decay": 0.5}, {"weight_decay": 0.5}),
    "no weight_decay": ({"weight_decay": None}, {"weight_decay": 0.0}),
    "wd_schedule": ({"wd_schedule": 0.125}, {"lr_reference": 0.125}),
    "centralize": ({"centralize": False}, {"centralize": False}),
    "stabilize": ({"stabilize": False}, {"stabilize": False}),
    "bf16_sr": ({"bf16_sr": False}, {"seed": None}),
    "compute_dtype": ({"compute_dtype": "Float32 "}, {"compute_dtype": "fp32"}),
    "no compute_dtype": ({"compute_dtype": None}, {"compute_dtype": None}),
    "maximize": ({"maximize": True}, {"maximize": True}),
    "max_step": ({"max_step": 0.25}, {"max_step": 0.25}),
    "sr_seed": ({"sr_seed": 2**64 - 1}, {"seed": 2**64 - 1}),
}

tensor: Final[Callable[[np.ndarray], torch.Tensor]] = next(b for b in BACKENDS if b.name == "torch-1-thread").array
"""Copy a NumPy array to a torch tensor."""


def normal(seed: int, shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
    """Return normal values that depend on the seed and the shape only."""
    rng = np.random.default_rng([seed, *shape])
    return np.asarray(rng.standard_normal(shape)).astype(DTYPES[dtype][0])


def model(dtype: str = "float32") -> dict[str, np.ndarray]:
    """Return a parameter of each shape."""
    return {name: normal(0, shape, dtype) for name, shape in SHAPES.items()}


def grads(step: int = 0, dtype: str = "float32") -> dict[str, np.ndarray]:
    """Return the gradients of the model at a step. Steps count from 0."""
    return {name: normal(1 + step, shape, dtype) for name, shape in SHAPES.items()}


def parameter(x: np.ndarray, grad: np.ndarray | None = None) -> torch.nn.Parameter:
    """Return a copy as a torch parameter with this gradient."""
    param = torch.nn.Parameter(tensor(x))
    param.grad = None if grad is None else tensor(grad)
    return param


def with_grad(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, device: str = "cpu") -> torch.nn.Parameter:
    """Return a torch parameter of ones, with a gradient of ones."""
    param = torch.nn.Parameter(torch.ones(shape, device=device).to(dtype), requires_grad=dtype.is_floating_point)
    param.grad = torch.ones(shape, device=device).to(dtype)
    return param


def valid_groups() -> list[dict[str, Any]]:
    """Return groups of torch parameters with gradients. One of them has a generator."""
    noisy, plain = ([parameter(x, grads(0, d)[n]) for n, x in model(d).items()] for d in ("bfloat16", "float32"))
    return [{"params": noisy, "bf16_sr": torch.Generator().manual_seed(1)}, {"params": plain}]


def core_step(
    params: Mapping[str, Any],
    grads: Mapping[str, Any],
    *,
    seed: int | None = 0,
    step: int = 0,
    first_index: int = 0,
    words: Iterable[Any] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Return the parameters after a step of the core. A gradient of None skips a parameter.

    bfloat16 is rounded with `words`, or with the portable noise of `seed`. A seed of None rounds to nearest.
    """
    stepped = {}
    drawn = None if words is None else iter(words)
    for index, (name, param) in enumerate(params.items(), first_index):
        noise = None
        if dtype_name(param) == "bfloat16" and grads[name] is not None and seed is not None:
            portable = noise_words(param.shape, seed=seed, step=step, index=index, like=param)
            noise = portable if drawn is None else next(drawn)
        stepped[name] = param if grads[name] is None else update(param, grads[name], noise=noise, **options)
    return stepped


def core_run(rates: Sequence[float], **options: Any) -> dict[str, Any]:
    """Return the bfloat16 model after a step of the core at each learning rate. Steps at 0 are not counted."""
    params, counted = model("bfloat16"), 0
    for step, lr in enumerate(rates):
        params = core_step(params, grads(step, "bfloat16"), step=counted, lr=lr, **options)
        counted += lr != 0
    return params


def assert_same_model(params: Mapping[str, Any], expected: Mapping[str, Any], backend: str) -> None:
    """Raise unless every parameter has the expected bits."""
    assert list(params) == list(expected)
    for name, want in expected.items():
        assert_same_bits(params[name], want, backend=backend, what=name)
