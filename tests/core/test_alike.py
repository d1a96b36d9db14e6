"""Which updates are done together: those that differ in values and noise only."""

from typing import Any, NamedTuple

import numpy as np
import torch

from rose_core import Hyperparameters
from rose_core.alike import alike
from rose_core.rounding import ComputeDtype

OPTIONS = Hyperparameters(lr=0.1)


class Own(NamedTuple):
    """An update as an adapter makes it."""

    param: Any
    grad: Any
    options: Hyperparameters = OPTIONS
    factor: float = 1.0
    compute: ComputeDtype = "fp64"
    noise: Any = None


def own(shape: tuple[int, ...] = (3, 4), dtype: Any = np.float32, grad_dtype: Any = np.float32) -> Own:
    return Own(np.ones(shape, dtype), np.ones(shape, grad_dtype))


DIFFERENT = {
    "shape": own((4, 3)),
    "rank": own((3, 4, 1)),
    "dtype": own(dtype=np.float64),
    "dtype of the gradient": own(grad_dtype=np.float16),
    "options": own()._replace(options=Hyperparameters(lr=0.2)),
    "decay factor": own()._replace(factor=0.5),
    "compute dtype": own()._replace(compute="fp32"),
    "noise or not": own()._replace(noise=(0, 1, 2)),
    "library": Own(torch.ones(3, 4), torch.ones(3, 4)),
    "type": Own(torch.nn.Parameter(torch.ones(3, 4)), torch.ones(3, 4)),
    "negation that is put off": Own(torch.ones(3, 4), torch.ones(3, 4, dtype=torch.complex64).conj().imag),
    "history": Own(torch.ones(3, 4), torch.ones(3, 4, requires_grad=True)),
    "device": Own(torch.ones(3, 4, device="meta"), torch.ones(3, 4, device="meta")),
}


def test_what_differs_is_done_apart_and_the_rest_together_in_its_order() -> None:
    updates = [update for other in DIFFERENT.values() for update in (own(), other)] + list(DIFFERENT.values())
    groups = alike(updates)
    assert [len(group) for group in groups] == [len(DIFFERENT), *[2] * len(DIFFERENT)]
    assert all(update is one for update, one in zip(groups[0], updates[::2], strict=False))
    for group, other in zip(groups[1:], DIFFERENT.values(), strict=True):
        assert all(update is other for update in group)


def test_other_noise_is_no_difference() -> None:
    updates = [own()._replace(noise=(0, 1, index)) for index in range(3)]
    assert alike(updates) == [updates]


def test_nothing_is_done_of_nothing() -> None:
    assert alike([]) == []
