"""The checks of a parameter and its gradient before a step, and the choice of the kernel that updates it."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Final

import ml_dtypes
import numpy as np
import torch
from torch import Tensor

from rose_core import Hyperparameters
from rose_core.rounding import ComputeDtype
from rose_core.update import checked_compute_dtype
from rose_kernels import Kernel, Kind, layout_of
from rose_plan import CheckedRow, Properties, has_repeated_elements, span_of

__all__ = [
    "PLAIN_TYPES",
    "as_numpy",
    "check",
    "is_plain",
    "properties_of",
    "require_in_place",
    "require_own_shape",
    "tensor_span",
]

_DTYPE_NAMES: Final = {
    torch.float64: "float64",
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
}
PLAIN_TYPES: Final = frozenset({Tensor, torch.nn.Parameter})

_dtype_of, _shape_of, _layout_of, _is_on_cpu = map(attrgetter, ("dtype", "shape", "layout", "is_cpu"))


def require_own_shape(param: Tensor, name: str, hidden: str = "the slices that Rose is made of") -> None:
    """Raise if a framework is known to hold the parameter flattened or in pieces. `hidden` says what that hides.

    A view that FSDP1 returns with ``use_orig_params=True`` cannot be told from a whole parameter.
    """
    for mark, owner in (("_fsdp_flattened", "FullyShardedDataParallel (FSDP1)"), ("ds_id", "DeepSpeed ZeRO stage 3")):
        if hasattr(param, mark):
            raise ValueError(
                f"{name} is flattened by {owner}, which hides {hidden}; allowed are plain "
                "parameters and DTensors, as torch.distributed.fsdp.fully_shard (FSDP2) makes them"
            )


def require_in_place(param: Tensor, grad: Tensor, name: str) -> None:
    """Raise unless both tensors are dense and the parameter can be updated in place."""
    if grad.layout != torch.strided or param.layout != torch.strided:
        raise RuntimeError(f"Rose needs dense gradients, the gradient of {name} has layout {grad.layout}")
    if has_repeated_elements(param.shape, param.stride()):
        raise RuntimeError(f"{name} has elements that share memory, so it cannot be updated in place")
    if param.is_inference():
        raise RuntimeError(f"{name} was made in inference mode, so it cannot be updated in place")


def is_plain(tensor: Tensor) -> bool:
    """Tell whether a tensor is a dense one on the CPU and of no subclass, so that its memory holds its values."""
    return type(tensor) in PLAIN_TYPES and tensor.layout is torch.strided and tensor.is_cpu and not tensor.is_neg()


def as_numpy(tensor: Tensor) -> np.ndarray:
    """Return the memory of a plain tensor as a NumPy array.

    NumPy does not use the threads of torch, for which a forked process would wait for ever. `Tensor.numpy` would also
    prevent for ever that the storage is resized, as offloading does.
    """
    array = np.asarray(_Memory(tensor))
    return array.view(ml_dtypes.bfloat16) if tensor.dtype == torch.bfloat16 else array


class _Memory:
    """The memory of a tensor, for NumPy. bfloat16 is shown as its bits."""

    def __init__(self, tensor: Tensor) -> None:
        name = "int16" if tensor.dtype == torch.bfloat16 else _DTYPE_NAMES[tensor.dtype]
        self._tensor = tensor  # the array keeps this object, and so the memory
        self.__array_interface__ = {
            "version": 3,
            "typestr": np.dtype(name).str,
            "data": (tensor.data_ptr(), False),
            "shape": tuple(tensor.shape),
            "strides": tuple(stride * tensor.itemsize for stride in tensor.stride()),
        }


def properties_of(params: Sequence[Tensor], grads: Sequence[Tensor]) -> Properties | None:
    """Return the properties that `check` depends on, None unless all tensors are of no subclass.

    Columns are built by `map`, which is faster than a loop over the tensors.
    """
    if not PLAIN_TYPES.issuperset(map(type, params)) or not PLAIN_TYPES.issuperset(map(type, grads)):
        return None
    contiguous = list(map(Tensor.is_contiguous, params)), list(map(Tensor.is_contiguous, grads))
    columns = [list(map(id, params)), list(map(_layout_of, grads)), *contiguous]
    columns += [list(map(get, tensors)) for tensors in (params, grads) for get in _PROPERTIES]
    if not all(contiguous[0]) or not all(contiguous[1]):
        columns += [list(map(Tensor.stride, params)), list(map(Tensor.stride, grads))]
    return columns


_PROPERTIES: Final = (_dtype_of, _shape_of, _is_on_cpu, Tensor.is_neg)


def check(
    param: Tensor, grad: Tensor, options: Hyperparameters, generator: torch.Generator | None, name: str, *, fused: bool
) -> CheckedRow:
    """Check a parameter and its gradient, or raise an error that names them."""
    require_own_shape(param, name)
    require_in_place(param, grad, name)
    stochastic = options.rounds_stochastically(param)
    names = (name, f"the gradient of {name}")
    compute = checked_compute_dtype(param, grad, options.compute_dtype, stochastic=stochastic, names=names)
    if stochastic and generator is not None and not _same_device(generator.device, param.device):
        raise ValueError(f"bf16_sr is a generator on device {generator.device}, {name} is on {param.device}")
    kernel = None
    if fused and is_plain(param) and is_plain(grad):
        kernel = _kernel_of(param, grad, options, compute, stochastic=stochastic)
    return CheckedRow(compute, stochastic, kernel, tensor_span(param), tensor_span(grad))


def _same_device(one: torch.device, other: torch.device) -> bool:
    """Tell whether two devices are the same. A device without an index is the current one of its type."""
    indices = {one.index, other.index} - {None}
    return one.type == other.type and len(indices) < 2


def tensor_span(tensor: Tensor) -> tuple[int, int]:
    """Return the span of a tensor in memory, as `rose_plan.span_of` does."""
    return span_of(tensor.shape, [stride * tensor.itemsize for stride in tensor.stride()], tensor.itemsize)


def _kernel_of(
    param: Tensor, grad: Tensor, options: Hyperparameters, compute: ComputeDtype, *, stochastic: bool
) -> Kernel | None:
    """Return the kernel that updates a parameter, None where only the core does."""
    kind = Kind(_DTYPE_NAMES[param.dtype], _DTYPE_NAMES[grad.dtype], compute)
    if not kind.has_kernels:
        return None
    layout = layout_of(
        param.shape,
        param.stride(),
        grad.stride(),
        (param.itemsize, grad.itemsize),
        centralize=options.centralize,
        stabilize=options.stabilize,
        in_c_order=stochastic,
    )
    return None if layout is None else Kernel(kind, layout)
