"""The oracle's checks of options and shapes: which steps must be refused, and why (ROSE-10, ROSE-11)."""

import math
from collections.abc import Iterator, Sequence

from rose_spec.oracle import COMPUTE_FORMATS, Options, Tensor

__all__ = ["reason_to_refuse"]


def reason_to_refuse(options: Options, param: Tensor, grad: Tensor, noise: Sequence[int] | None = None) -> str | None:
    """Return the reason why a step must be refused, or None if it is allowed."""
    return next(_reasons(options, param, grad, noise), None)


def _reasons(options: Options, param: Tensor, grad: Tensor, noise: Sequence[int] | None) -> Iterator[str]:
    if not 0.0 <= options.lr < math.inf:
        yield f"lr must be given, a finite number >= 0; got {options.lr}"
    if options.weight_decay is not None and not 0.0 <= options.weight_decay < math.inf:
        yield f"weight_decay must be a finite number >= 0 or none, got {options.weight_decay}"
    if options.lr_reference is not None and not 0.0 < options.lr_reference < math.inf:
        yield f"lr_reference must be a finite number > 0 or none, got {options.lr_reference}"
    if options.max_step is not None and not options.max_step > 0.0:
        yield f"max_step must be a number > 0 or none, got {options.max_step}"
    name = "none" if options.compute_dtype is None else options.compute_dtype.strip().lower()
    compute = COMPUTE_FORMATS.get(name)
    if name not in COMPUTE_FORMATS:
        yield f"compute_dtype must be one of {', '.join(COMPUTE_FORMATS)}, got {options.compute_dtype!r}"
    if noise is not None and compute is not None and compute.width == 16:
        yield f"noise needs a compute_dtype wider than 16 bits, got {options.compute_dtype!r}"
    if noise is not None and param.dtype != "bfloat16":
        yield f"noise must be none for a parameter of dtype {param.dtype}; it rounds bfloat16 only"
    if param.shape != grad.shape:
        yield f"the gradient has shape {grad.shape}, the parameter {param.shape}; they must be equal"
