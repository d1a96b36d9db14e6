"""Rose in a CuPy training loop: softmax regression on scikit-learn's digits, wholly on the GPU.

    python examples/cupy_loop.py

The loop takes the array module and the optimizer as arguments, since CuPy and NumPy share their functions:
`train(numpy, rose_numpy.Rose)` is the same training on the CPU. Without CuPy or a CUDA device the exit
status is 2.
"""

import sys
from typing import Any

from sklearn.datasets import load_digits
from tqdm import trange

__all__ = ["main", "train"]


def main() -> int:
    """Train on the GPU and print the accuracy; return the exit status."""
    try:
        import cupy  # noqa: PLC0415  (its absence is to be explained)
    except ImportError as error:
        print(f"cupy_loop.py: CuPy cannot be imported: {error}", file=sys.stderr)
        return 2
    if not cupy.cuda.is_available():
        print("cupy_loop.py: CuPy finds no CUDA device", file=sys.stderr)
        return 2
    from rose_cupy import Rose  # noqa: PLC0415  (it needs CuPy)

    print(f"accuracy {train(cupy, Rose):.1%} on the 1,797 images trained on")
    return 0


def train(xp: Any, rose: Any, steps: int = 200, peak_lr: float = 0.1) -> float:
    """Fit a weight for each pixel and digit to all images at once, and return the accuracy."""
    pixels, digits = load_digits(return_X_y=True)
    images = xp.asarray(pixels / 8.0 - 1.0, dtype=xp.float32)
    labels = xp.asarray(digits)
    targets = xp.eye(10, dtype=xp.float32)[labels]

    parameters = {"weight": xp.zeros((10, 64), xp.float32), "bias": xp.zeros(10, xp.float32)}
    optimizer = rose(parameters, lr=peak_lr)
    progress = trange(steps, desc=f"training on {xp.__name__}", unit="step")
    for step in progress:
        optimizer.param_groups[0]["lr"] = peak_lr * (1.0 - step / steps)
        logits = images @ parameters["weight"].T + parameters["bias"]
        probabilities = xp.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        error = (probabilities - targets) / len(images)
        optimizer.step({"weight": error.T @ images, "bias": error.sum(axis=0)})
        if step % 20 == 0:  # a look at the loss waits for the device
            loss = -xp.log((probabilities * targets).sum(axis=1)).mean()
            progress.set_postfix(loss=f"{float(loss):.4f}", refresh=False)
    return float((logits.argmax(axis=1) == labels).mean())


if __name__ == "__main__":
    sys.exit(main())
