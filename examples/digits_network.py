"""A small network for handwritten digits, forward and backward written out over the array API.

It uses only the functions that `array_api_compat.array_namespace` finds for its arrays, so it runs
unchanged on NumPy, PyTorch and CuPy. Weights are (out, in): axis 0 counts what Rose calls slices.
"""

from itertools import pairwise
from typing import Any, Final

import numpy as np
from array_api_compat import array_namespace

__all__ = ["LAYERS", "accuracy", "initial_parameters", "loss_and_gradients"]

LAYERS: Final = ("hidden 1", "hidden 2", "output")
_SIZES: Final = (64, 128, 64, 10)


def initial_parameters(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the weight and the bias of each layer, float32; tanh keeps their outputs near unit variance."""
    parameters = {}
    for layer, (fan_in, fan_out) in zip(LAYERS, pairwise(_SIZES), strict=True):
        parameters[f"{layer} weight"] = rng.normal(0.0, fan_in**-0.5, (fan_out, fan_in)).astype(np.float32)
        parameters[f"{layer} bias"] = np.zeros(fan_out, np.float32)
    return parameters


def loss_and_gradients(parameters: dict[str, Any], images: Any, targets: Any) -> tuple[float, dict[str, Any]]:
    """Return the mean cross-entropy and its gradients, which have the parameters' dtype.

    `images` is (batch, 64), `targets` one-hot (batch, 10), both float32: parameters of another dtype are
    converted, so that bfloat16 is how they are stored and not how they are computed with.
    """
    xp = array_namespace(images)
    weights = {layer: xp.astype(parameters[f"{layer} weight"], images.dtype) for layer in LAYERS}
    inputs, logits = _forward(parameters, weights, images)
    shifted = logits - xp.max(logits, axis=1, keepdims=True)
    log_likelihood = shifted - xp.log(xp.sum(xp.exp(shifted), axis=1, keepdims=True))
    loss = -xp.sum(targets * log_likelihood) / images.shape[0]

    gradients = {}
    delta = (xp.exp(log_likelihood) - targets) / images.shape[0]
    for layer in reversed(LAYERS):
        gradients[f"{layer} weight"] = xp.matmul(xp.matrix_transpose(delta), inputs[layer])
        gradients[f"{layer} bias"] = xp.sum(delta, axis=0)
        # The derivative of tanh is 1 - tanh**2. (The last of these, for the images, is not used.)
        delta = xp.matmul(delta, weights[layer]) * (1.0 - inputs[layer] ** 2)
    return float(loss), {name: xp.astype(gradients[name], value.dtype) for name, value in parameters.items()}


def accuracy(parameters: dict[str, Any], images: Any, labels: Any) -> float:
    """Return the fraction of images whose largest logit is that of their label."""
    xp = array_namespace(images)
    weights = {layer: xp.astype(parameters[f"{layer} weight"], images.dtype) for layer in LAYERS}
    _, logits = _forward(parameters, weights, images)
    return float(xp.mean(xp.astype(xp.argmax(logits, axis=1) == labels, images.dtype)))


def _forward(parameters: dict[str, Any], weights: dict[str, Any], images: Any) -> tuple[dict[str, Any], Any]:
    """Return the input of each layer, and the logits."""
    xp = array_namespace(images)
    inputs, values = {}, images
    for layer in LAYERS:
        inputs[layer] = values
        bias = xp.astype(parameters[f"{layer} bias"], images.dtype)
        values = xp.matmul(values, xp.matrix_transpose(weights[layer])) + bias
        if layer != LAYERS[-1]:
            values = xp.tanh(values)
    return inputs, values
