"""The cases of the benchmark, which are the shapes of real models, and its contenders, which are optimizers.

The speed of Rose depends on the length of the rows. A case that is scaled down therefore keeps this length, and has
fewer rows or fewer tensors.
"""
# ruff: noqa: PLC0415  (rose-opt is imported only if it is measured)

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import ml_dtypes
import numpy as np
import torch
from torch import Tensor

import rose_numpy
import rose_torch

__all__ = ["ADD", "CASES", "CONTENDERS", "Case", "Contender", "Shape", "Step", "parameters_in"]

ADD: Final = "torch.add float32"
LR: Final = 1e-3

Shape = tuple[int, ...]
Step = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """A list of tensors.

    Attributes
    ----------
    title : a short description.
    shapes : returns the shapes, given an approximate factor for the number of parameters.
    """

    title: str
    shapes: Callable[[float], list[Shape]]

    def up_to(self, elements: float) -> list[Shape]:
        """Return the shapes, scaled down to about this number of elements if they have more."""
        return self.shapes(min(1.0, elements / parameters_in(self.shapes(1.0))))


@dataclass(frozen=True)
class Contender:
    """An optimizer with its options, or the reference operation `torch.add`.

    Attributes
    ----------
    name : the library and its variant.
    compute : the compute dtype, empty if there is no choice.
    build : returns a step, given parameters, which the step may change, and their gradients.
    needs : the module that must be installed.
    dtypes : the dtypes of parameters to measure.
    is_optimizer : False for `torch.add`.
    """

    name: str
    compute: str
    build: Callable[[list[Tensor], list[Tensor]], Step]
    needs: str = "torch"
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    is_optimizer: bool = True

    @property
    def label(self) -> str:
        """The name with the compute dtype."""
        return f"{self.name} {self.compute}".rstrip()


def parameters_in(shapes: Sequence[Shape]) -> int:
    """Return the number of elements of all shapes together."""
    return sum(math.prod(shape) for shape in shapes)


def _rows(shapes: Sequence[Shape], scale: float) -> list[Shape]:
    """Return the shapes with the length of axis 0 multiplied by the scale."""
    return [(max(1, round(shape[0] * scale)), *shape[1:]) for shape in shapes]


def _copies_of(shapes: Sequence[Shape], count: int, scale: float) -> list[Shape]:
    """Return `count * scale` copies of the shapes."""
    return list(shapes) * max(1, round(count * scale))


def _gpt() -> list[Shape]:
    width = 512
    vectors = [(3 * width,), (width,), (4 * width,), *[(width,)] * 5]  # the biases, and two layer norms
    block = [(3 * width, width), (width, width), (4 * width, width), (width, 4 * width), *vectors]
    ends = [(16384, width), (width,), (width,), (16384, width)]  # the embedding, the last norm, the head
    return ends[:1] + block * 8 + ends[1:]


def _resnet50() -> list[Shape]:
    return [(64, 3, 7, 7), (64,), (64,), *_bottlenecks(), (1000, 2048), (1000,)]


def _bottlenecks() -> Iterator[Shape]:
    """Yield the convolutions of the four stages, each with the weight and the bias of its batch norm."""
    channels = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            kernels = [(width, channels, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)]
            shortcut = [(4 * width, channels, 1, 1)] if block == 0 else []
            for kernel in kernels + shortcut:
                yield from (kernel, kernel[:1], kernel[:1])
            channels = 4 * width


def _short_rows(length: int) -> Case:
    count = round(36e6 / (2**18 * length))
    return Case(f"rows of {length}", partial(_rows, [(2**18, length)] * count))


CASES: Final = {
    "gpt": Case("GPT of 8 blocks", partial(_rows, _gpt())),
    "resnet50": Case("ResNet-50", partial(_rows, _resnet50())),
    "lora": Case("LoRA factors of rank 8", partial(_copies_of, [(8, 4096), (4096, 8)], 64)),
    "small": Case("tensors of 10 x 10", partial(_copies_of, [(10, 10)], 1000)),
    "row": Case("one row", lambda scale: [(1, round(50e6 * scale))]),
    "rows64": _short_rows(64),
    "rows27": _short_rows(27),
    "rows9": _short_rows(9),
}


def _add(dtype: torch.dtype, parameters: list[Tensor], grads: list[Tensor]) -> Step:
    """Return the reference operation, which reads two arrays and writes one."""
    del parameters
    x = torch.cat([grad.flatten() for grad in grads]).to(dtype)
    return partial(torch.add, x, x.clone(), out=torch.empty_like(x))


def _torch_step(optimizer: Callable[..., torch.optim.Optimizer], **options: Any) -> Callable[..., Step]:
    """Return a function that builds a step of a PyTorch optimizer."""

    def build(parameters: list[Tensor], grads: list[Tensor]) -> Step:
        params = [torch.nn.Parameter(parameter) for parameter in parameters]
        for parameter, grad in zip(params, grads, strict=True):
            parameter.grad = grad
        return optimizer(params, lr=LR, **options).step

    return build


def _rose_opt(*args: Any, **options: Any) -> torch.optim.Optimizer:
    from rose_opt import Rose

    return Rose(*args, **options)


def _numpy_step(**options: Any) -> Callable[..., Step]:
    """Return a function that builds a step of the NumPy optimizer, over the memory of the tensors."""

    def build(parameters: list[Tensor], grads: list[Tensor]) -> Step:
        optimizer = rose_numpy.Rose([_array(parameter) for parameter in parameters], lr=LR, **options)
        return partial(optimizer.step, [_array(grad) for grad in grads])

    return build


def _array(tensor: Tensor) -> np.ndarray:
    # NumPy does not know the bfloat16 of torch, so it is viewed as 16-bit integers first.
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def _contenders() -> Iterator[Contender]:
    yield Contender(ADD, "", partial(_add, torch.float32), is_optimizer=False)
    yield Contender("torch.add bfloat16", "", partial(_add, torch.bfloat16), dtypes=("bfloat16",), is_optimizer=False)
    for compute in ("fp64", "fp32"):
        # Of the two kinds of noise in rose_torch, the portable one, which rose_numpy has too.
        ours = {"compute_dtype": compute, "sr_seed": 0}
        yield Contender("rose_numpy fused", compute, _numpy_step(fused=True, **ours), "numba")
        yield Contender("rose_torch fused", compute, _torch_step(rose_torch.Rose, fused=True, **ours), "numba")
        yield Contender("rose_torch", compute, _torch_step(rose_torch.Rose, fused=False, **ours))
        yield Contender("rose-opt", compute, _torch_step(_rose_opt, compute_dtype=compute), "rose_opt")
    yield Contender("AdamW", "", _torch_step(torch.optim.AdamW))
    yield Contender("AdamW fused", "", _torch_step(torch.optim.AdamW, fused=True))
    yield Contender("SGD fused", "", _torch_step(torch.optim.SGD, fused=True))


CONTENDERS: Final = tuple(_contenders())
