"""A small network for handwritten digits: the forward and the backward pass, written with the array API.

It calls only functions of `array_api_compat.array_namespace`, so it runs unchanged on NumPy, PyTorch and CuPy.
Weights have shape (out, in), so the slices of Rose, along axis 0, are the output units.
"""

from itertools import pairwise
from typing import Any, Final

import numpy as np
from array_api_compat import array_namespace

__all__ = ["LAYERS", "accuracy", "initial_parameters", "loss_and_gradients"]

LAYERS: Final = ("hidden 1", "hidden 2", "output")
_SIZES: Final = (64, 128, 64, 10)


def initial_parameters(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the weight and the bias of each layer, in float32, scaled for outputs of unit variance."""
    parameters = {}
    for layer, (fan_in, fan_out) in zip(LAYERS, pairwise(_SIZES), strict=True):
        parameters[f"{layer} weight"] = rng.normal(0.0, fan_in**-0.5, (fan_out, fan_in)).astype(np.float32)
        parameters[f"{layer} bias"] = np.zeros(fan_out, np.float32)
    return parameters


def loss_and_gradients(parameters: dict[str, Any], images: Any, targets: Any) -> tuple[float, dict[str, Any]]:
    """Return the mean cross-entropy and its gradients, in the dtype of the parameters.

    `images` has shape (batch, 64). `targets` has shape (batch, 10) and is one-hot. Both are float32. Parameters of
    another dtype are converted to float32 for the computation.
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
        # The derivative of tanh is 1 - tanh**2. The last delta belongs to the images and is not used.
        delta = xp.matmul(delta, weights[layer]) * (1.0 - inputs[layer] ** 2)
    return float(loss), {name: xp.astype(gradients[name], value.dtype) for name, value in parameters.items()}


def accuracy(parameters: dict[str, Any], images: Any, labels: Any) -> float:
    """Return the fraction of the images for which the label has the largest logit."""
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
