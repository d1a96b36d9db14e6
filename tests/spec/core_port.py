"""rose_core as a function over the oracle's tensors."""

from typing import Any

import numpy as np

import rose_core
from rose_spec.floats import FORMATS
from rose_spec.oracle import Tensor
from rose_spec.ports.port import plain_options
from rose_spec.vectors import Vector, tensor_from_json
from tests.bits import from_words, words

__all__ = ["core_update", "request_of", "to_array", "to_tensor"]


def to_array(tensor: Tensor) -> np.ndarray:
    bits = [FORMATS[tensor.dtype].encode(value, canonical=False) for value in tensor.values]
    return from_words(bits, tensor.dtype).reshape(tensor.shape)


def to_tensor(array: np.ndarray) -> Tensor:
    return Tensor.from_words(str(array.dtype), array.shape, words(array).ravel().tolist())


def core_update(param: Tensor, grad: Tensor, options: Any, noise: list[int] | None) -> Tensor:
    words_of_noise = None if noise is None else np.asarray(noise, np.int32).reshape(param.shape)
    return to_tensor(rose_core.update(to_array(param), to_array(grad), noise=words_of_noise, **plain_options(options)))


def request_of(vector: Vector) -> tuple[Tensor, Tensor, Any, list[int] | None]:
    value = vector.input
    noise = [int(word, 16) for word in value["noise"]] if "noise" in value else None
    return tensor_from_json(value["param"]), tensor_from_json(value["grad"]), value["options"], noise
