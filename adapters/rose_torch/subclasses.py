"""Updates of tensor subclasses, such as quantized weights, by the operations that they define."""

from typing import Final

from rose_core import rule
from rose_core.chunks import NoiseSource
from rose_core.namespace import quiet
from rose_plan import Update

__all__ = ["require_operations", "update_subclass"]

# The types of parameter and gradient that were tried, with the properties that the operations depend on.
_tried: Final[set[tuple[object, ...]]] = set()


def require_operations(update: Update, name: str) -> None:
    """Raise if a subclass lacks an operation of the step. It is tried once for all tensors of one type."""
    param, grad, compute = update.param, update.grad, update.options.compute
    key = type(param), type(grad), param.dtype, grad.dtype, param.ndim, compute
    if key in _tried:
        return
    try:
        _step(update, None)
    except NotImplementedError as error:
        raise TypeError(
            f"{name} is a {type(param).__name__} and its gradient a {type(grad).__name__}, which lack an operation "
            f"that a step needs: {error}"
        ) from error
    _tried.add(key)


def update_subclass(update: Update, noise: NoiseSource | None) -> None:
    """Overwrite a parameter by its values after a step. Operations see the whole tensors, since few can be indexed."""
    update.param.copy_(_step(update, noise))


@quiet
def _step(update: Update, noise: NoiseSource | None) -> object:
    param = update.param
    words = None if noise is None else noise(0, param.numel()).reshape(param.shape)
    return rule.step(param, update.grad, update.options, words)
