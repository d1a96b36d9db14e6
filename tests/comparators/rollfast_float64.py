"""rollfast in float64: its modules with a `jax.numpy` whose float32 is float64."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pytest

__all__ = ["rollfast_module", "rollfast_trajectory"]


def rollfast_module(monkeypatch: pytest.MonkeyPatch, name: str, *, wide: bool = True) -> ModuleType:
    """Return a module of rollfast that computes in float64, or skip if it is not installed."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    utils = pytest.importorskip("rollfast.utils", reason="rollfast is not installed")
    module = pytest.importorskip(f"rollfast.optim.{name}", reason="rollfast is not installed")
    jax.config.update("jax_enable_x64", True)
    if wide:
        wider = ModuleType("wider")
        wider.__dict__.update(vars(jax.numpy) | {"float32": jax.numpy.float64})
        for each in (module, utils):
            monkeypatch.setattr(each, "jnp", wider)
    return module


def rollfast_trajectory(transformation: Any, param: np.ndarray, grads: Sequence[np.ndarray], lr: float) -> tuple[np.ndarray, Any]:
    """Return the parameter after all steps, and the state."""
    import jax

    x = jax.numpy.asarray(param)
    state, update = transformation.init(x), jax.jit(transformation.update)
    for grad in grads:
        direction, state = update(jax.numpy.asarray(grad), state, x)
        x = x - lr * direction
    return np.asarray(x), state
