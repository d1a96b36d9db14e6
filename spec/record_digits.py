"""Record the gradients of a small network that learns handwritten digits, for the vectors of the topic "recorded".

    python spec/record_digits.py

The script needs NumPy and scikit-learn, and writes `spec/rose_spec/vectors/recorded_digits.json`. The last bits may
differ from machine to machine, so this file was recorded once and is not generated again.
"""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from sklearn.datasets import load_digits

import rose_core

TARGET: Final = Path(__file__).parent / "rose_spec" / "vectors" / "recorded_digits.json"
SIZES: Final = (64, 16, 10)
RATES: Final = (0.0025, 0.005, 0.0025)
BATCH: Final = 32


def main() -> None:
    """Train for a few steps, and write the initial parameters and all gradients."""
    rng = np.random.default_rng(0)
    params = initial_parameters(rng)
    recorded: dict[str, Any] = {"initial": _to_json(params), "gradients": []}
    images, labels = load_digits(return_X_y=True)
    for lr in RATES:
        batch = rng.choice(len(images), BATCH, replace=False)
        gradients = gradients_of(params, (images[batch] / 16.0).astype(np.float32), labels[batch])
        recorded["gradients"].append(_to_json(gradients))
        for name, gradient in gradients.items():
            params[name] = rose_core.update(params[name], gradient, lr=lr, weight_decay=0.01, lr_reference=max(RATES))
    TARGET.write_text(json.dumps(recorded, separators=(",", ":")).replace('"gradients"', '\n"gradients"') + "\n")


def initial_parameters(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return float32 weights of shape (out, in) and biases."""
    inputs, hidden, outputs = SIZES
    return {
        "hidden-weight": rng.normal(0.0, inputs**-0.5, (hidden, inputs)).astype(np.float32),
        "hidden-bias": np.zeros(hidden, np.float32),
        "output-weight": rng.normal(0.0, hidden**-0.5, (outputs, hidden)).astype(np.float32),
        "output-bias": np.zeros(outputs, np.float32),
    }


def gradients_of(params: dict[str, np.ndarray], images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return the gradients of the mean cross-entropy with respect to the parameters."""
    hidden = np.tanh(images @ params["hidden-weight"].T + params["hidden-bias"])
    logits = hidden @ params["output-weight"].T + params["output-bias"]
    likelihood = np.exp(logits - logits.max(axis=1, keepdims=True))
    likelihood /= likelihood.sum(axis=1, keepdims=True)
    delta = (likelihood - np.eye(10, dtype=np.float32)[labels]) / np.float32(len(labels))
    inner = (delta @ params["output-weight"]) * (1.0 - hidden**2)
    return {
        "hidden-weight": inner.T @ images,
        "hidden-bias": inner.sum(axis=0),
        "output-weight": delta.T @ hidden,
        "output-bias": delta.sum(axis=0),
    }


def _to_json(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    return {
        name: {
            "dtype": "float32",
            "shape": list(array.shape),
            "words": [
                f"{word:08x}" for word in np.ascontiguousarray(array, np.float32).view(np.uint32).ravel().tolist()
            ],
        }
        for name, array in arrays.items()
    }


if __name__ == "__main__":
    main()
