"""The checks of a parameter and its gradient before a step, and the choice of who updates it.

Both are the same at every step of a training, so what was found is kept, and found again by a look at what it hangs on.
"""

from collections.abc import Callable, Hashable
from typing import Final, NamedTuple

import torch
from torch import Tensor

from rose_core import Hyperparameters
from rose_core.rounding import ComputeDtype
from rose_core.update import checked_compute_dtype, repeats_memory
from rose_kernels import Kernel, Kind, layout_of
from rose_torch.placement import same_device

__all__ = ["Checked", "Checks", "is_plain", "require_own_shape"]

_NAMES: Final = {
    torch.float64: "float64",
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
}
_PLAIN: Final = (Tensor, torch.nn.Parameter)
_STRIDED: Final = torch.strided


class Checked(NamedTuple):
    """What the checks find: the compute dtype, whether there is noise, and the kernel that may update in place."""

    compute: ComputeDtype
    stochastic: bool
    kernel: Kernel | None


def require_own_shape(param: Tensor, name: str) -> None:
    """Raise if a parameter is known to be held flattened or in pieces, where its slices are not to be seen.

    A view that FSDP1 gives back with ``use_orig_params=True`` may be whole, but does not tell.
    """
    for mark, whose in (("_fsdp_flattened", "FullyShardedDataParallel (FSDP1)"), ("ds_id", "DeepSpeed ZeRO stage 3")):
        if hasattr(param, mark):
            raise ValueError(
                f"{name} is flattened by {whose}, which hides the slices that Rose is made of; allowed are plain "
                "parameters and DTensors, as torch.distributed.fsdp.fully_shard (FSDP2) makes them"
            )


class Checks:
    """The checks of one optimizer's parameters, which are known by their index."""

    def __init__(self, *, fused: bool) -> None:
        self._fused = fused
        self._known: dict[int, tuple[_Seen, Hashable, Checked]] = {}

    def of_group(
        self, options: Hyperparameters, generator: torch.Generator | None, name: Callable[[int], str]
    ) -> Callable[[int, int, Tensor, Tensor], Checked]:
        """Return what finds, or raises, for a parameter of a group, its index, position and gradient given."""
        chosen = options.centralize, options.stabilize, options.bf16_sr, options.compute_dtype, generator
        known_of = self._known.get

        def find(index: int, position: int, param: Tensor, grad: Tensor) -> Checked:
            known = known_of(index)
            if known is not None and known[1] == chosen and known[0].is_still(param, grad):
                return known[2]
            plain = is_plain(param) and is_plain(grad)
            found = _checked(param, grad, options, generator, name(position), fused=self._fused and plain)
            if plain:
                self._known[index] = _Seen(param, grad), chosen, found
            return found

        return find


class _Seen:
    """What the checks looked at of a plain parameter and gradient."""

    def __init__(self, param: Tensor, grad: Tensor) -> None:
        self._param = param
        self._param_dtype, self._grad_dtype = param.dtype, grad.dtype
        self._shape = param.shape
        self._strides = param.stride(), grad.stride()
        self._contiguous = param.is_contiguous() and grad.is_contiguous()

    def is_still(self, param: Tensor, grad: Tensor) -> bool:
        """Tell whether all of it is the same."""
        return (
            param is self._param
            and type(grad) is Tensor
            and grad.layout is _STRIDED
            and param.dtype is self._param_dtype
            and grad.dtype is self._grad_dtype
            and param.shape == self._shape == grad.shape
            and param.is_cpu
            and grad.is_cpu
            and not grad.is_neg()
            and (
                param.is_contiguous() and grad.is_contiguous()
                if self._contiguous
                else (param.stride(), grad.stride()) == self._strides
            )
        )


def is_plain(tensor: Tensor) -> bool:
    """Tell whether a tensor is a dense one on the CPU, and of no subclass, so that its memory is all there is to it."""
    is_dense = type(tensor) in _PLAIN and tensor.layout is torch.strided
    return is_dense and tensor.is_cpu and not tensor.is_neg()


def _checked(
    param: Tensor, grad: Tensor, options: Hyperparameters, generator: torch.Generator | None, name: str, *, fused: bool
) -> Checked:
    require_own_shape(param, name)
    if grad.layout != torch.strided or param.layout != torch.strided:
        raise RuntimeError(f"Rose needs dense gradients, the gradient of {name} has layout {grad.layout}")
    if repeats_memory(param.shape, param.stride()):
        raise RuntimeError(f"{name} has elements that share memory, so it cannot be updated in place")
    if param.is_inference():
        raise RuntimeError(f"{name} was made in inference mode, so it cannot be updated in place")
    stochastic = options.rounds_stochastically(param)
    names = (name, f"the gradient of {name}")
    compute = checked_compute_dtype(param, grad, options.compute_dtype, stochastic=stochastic, names=names)
    if stochastic and generator is not None and not same_device(generator.device, param.device):
        raise ValueError(f"bf16_sr is a generator on device {generator.device}, {name} is on {param.device}")
    kernel = _kernel_of(param, grad, options, compute, stochastic=stochastic) if fused else None
    return Checked(compute, stochastic, kernel)


def _kernel_of(
    param: Tensor, grad: Tensor, options: Hyperparameters, compute: ComputeDtype, *, stochastic: bool
) -> Kernel | None:
    """Return the kernel that updates a parameter, None where only the core does."""
    kind = Kind(_NAMES[param.dtype], _NAMES[grad.dtype], compute)
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
