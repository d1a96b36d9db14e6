"""The checks of a parameter and its gradient before a step, and the choice of who updates it.

Both are the same at every step of a training, so what was found is kept, and found again by a look at what it hangs on.
"""

from collections.abc import Callable, Hashable, Sequence
from itertools import chain
from operator import attrgetter, eq, is_
from typing import Any, Final, NamedTuple, TypeVar

import torch
from torch import Tensor

from rose_core import Hyperparameters
from rose_core.rounding import ComputeDtype
from rose_core.update import checked_compute_dtype, repeats_memory
from rose_kernels import Kernel, Kind, layout_of
from rose_torch.placement import extent, same_device

__all__ = ["Checks", "Found", "Given", "is_of_no_subclass", "is_plain", "require_own_shape"]

_NAMES: Final = {
    torch.float64: "float64",
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
}
_PLAIN: Final = frozenset({Tensor, torch.nn.Parameter})

# Where not all parameters of a group are as before, so many are looked at together.
_PIECE: Final = 32
# Parameters that have no gradient in some steps make other columns; so many stay.
_KEPT: Final = 256

C = TypeVar("C", bound=tuple[Any, ...])

# Mapped over tensors, which is faster than a loop over them.
_dtype_of, _shape_of, _layout_of, _is_on_cpu = map(attrgetter, ("dtype", "shape", "layout", "is_cpu"))


class Given(NamedTuple):
    """Parameters in columns: their indices in the optimizer, themselves, and their gradients."""

    indices: Sequence[int]
    params: Sequence[Tensor]
    grads: Sequence[Tensor]

    def at(self, places: slice) -> "Given":
        """Return those at some places."""
        return Given(self.indices[places], self.params[places], self.grads[places])


class Found(NamedTuple):
    """What the checks find of some parameters, in columns.

    Attributes
    ----------
    computes : the compute dtypes.
    stochastic : whether there is noise.
    kernels : the kernels that may update in place.
    param_extents, grad_extents : how many bytes the tensors take from their first element on.
    """

    computes: Sequence[ComputeDtype]
    stochastic: Sequence[bool]
    kernels: Sequence[Kernel | None]
    param_extents: Sequence[int]
    grad_extents: Sequence[int]


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
        self._known: dict[int, _Known] = {}
        self._together: dict[tuple[int, int], _Known] = {}  # some in columns, by the first index and their number

    def of_group(
        self, options: Hyperparameters, generator: torch.Generator | None, name: Callable[[int], str]
    ) -> Callable[[Given], Found]:
        """Return what finds, or raises, for parameters of a group; `name` says what to call that of an index."""
        chosen = options.centralize, options.stabilize, options.bf16_sr, options.compute_dtype, generator

        def find(given: Given) -> Found:
            count = len(given.indices)
            if count == 0:
                return Found([], [], [], [], [])
            if (found := self._found_before(given, chosen)) is not None:
                return found
            if count == 1:
                return check(given)
            size = _PIECE if count > _PIECE else 1
            pieces = (slice(start, start + size) for start in range(0, count, size))
            return _joined(Found, [find(given.at(piece)) for piece in pieces])

        def check(given: Given) -> Found:
            ((index,), (param,), (grad,)) = given
            plain = is_plain(param) and is_plain(grad)
            found = _checked(param, grad, options, generator, name(index), fused=self._fused and plain)
            if plain:
                self._known[index] = _Known([index], chosen, _seen(param, grad), found)
            return found

        return find

    def _found_before(self, given: Given, chosen: Hashable) -> Found | None:
        """Return what was found before of parameters with such options, None unless it holds for all of them."""
        indices = given.indices
        if len(indices) == 1:
            known = self._known.get(indices[0])
            return known.found if known and known.chosen == chosen and known.seen.are_still(given) else None
        place = indices[0], len(indices)
        known = self._together.pop(place, None)
        if known is None or known.indices != indices or known.chosen != chosen:
            ones = [own for index in indices if (own := self._known.get(index)) is not None and own.chosen == chosen]
            if len(ones) < len(indices):
                return None
            seen, found = _joined(_Seen, [one.seen for one in ones]), _joined(Found, [one.found for one in ones])
            known = _Known(indices, chosen, seen, found)
        if not known.seen.are_still(given):
            return None
        if len(self._together) >= _KEPT:
            self._together.clear()
        self._together[place] = known
        return known.found


class _Seen(NamedTuple):
    """What the checks looked at of plain parameters and their gradients, in columns."""

    params: Sequence[Tensor]
    param_dtypes: Sequence[torch.dtype]
    grad_dtypes: Sequence[torch.dtype]
    shapes: Sequence[tuple[int, ...]]
    strides: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]
    contiguous: Sequence[bool]

    def are_still(self, given: Given) -> bool:
        """Tell whether all of it is the same."""
        _, params, grads = given
        return (
            all(map(is_, params, self.params))
            and _PLAIN.issuperset(map(type, grads))
            and {torch.strided}.issuperset(map(_layout_of, grads))
            and all(map(_is_on_cpu, params))
            and all(map(_is_on_cpu, grads))
            and not any(map(Tensor.is_neg, params))
            and not any(map(Tensor.is_neg, grads))
            and all(map(is_, map(_dtype_of, params), self.param_dtypes))
            and all(map(is_, map(_dtype_of, grads), self.grad_dtypes))
            and all(map(eq, map(_shape_of, params), self.shapes))
            and all(map(eq, map(_shape_of, grads), self.shapes))
            and self._lie_as_before(params, grads)
        )

    def _lie_as_before(self, params: Sequence[Tensor], grads: Sequence[Tensor]) -> bool:
        if all(self.contiguous):
            return all(map(Tensor.is_contiguous, params)) and all(map(Tensor.is_contiguous, grads))
        return all(map(eq, zip(map(Tensor.stride, params), map(Tensor.stride, grads), strict=True), self.strides))


class _Known(NamedTuple):
    """What is known of plain parameters: what of their groups' options it hangs on, what was seen, what was found."""

    indices: Sequence[int]
    chosen: Hashable
    seen: _Seen
    found: Found


def _joined(columns: Callable[..., C], ones: Sequence[C]) -> C:
    """Return the columns of some parameters, given those of each."""
    return columns(*(list(chain.from_iterable(column)) for column in zip(*ones, strict=True)))


def _seen(param: Tensor, grad: Tensor) -> _Seen:
    contiguous = param.is_contiguous() and grad.is_contiguous()
    return _Seen([param], [param.dtype], [grad.dtype], [param.shape], [(param.stride(), grad.stride())], [contiguous])


def is_plain(tensor: Tensor) -> bool:
    """Tell whether a tensor is a dense one on the CPU, and of no subclass, so that its memory is all there is to it."""
    is_dense = is_of_no_subclass(tensor) and tensor.layout is torch.strided
    return is_dense and tensor.is_cpu and not tensor.is_neg()


def is_of_no_subclass(tensor: Tensor) -> bool:
    """Tell whether a tensor is no more than that, or than a parameter, so that it does what any other does."""
    return type(tensor) in _PLAIN


def _checked(
    param: Tensor, grad: Tensor, options: Hyperparameters, generator: torch.Generator | None, name: str, *, fused: bool
) -> Found:
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
    return Found([compute], [stochastic], [kernel], [extent(param)], [extent(grad)])


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
