"""Train a softmax regression on scikit-learn's digits with Rose and CuPy, entirely on the GPU.

    python examples/cupy_loop.py

CuPy and NumPy have the same functions, so `train` takes the array module and the optimizer as arguments:
`train(numpy, rose_numpy.Rose)` is the same training on the CPU. The exit status is 2 without CuPy or without a CUDA
device.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from sklearn.datasets import load_digits
from tqdm import trange

__all__ = ["main", "train"]


def main(argv: Sequence[str] | None = None) -> int:
    """Train on the GPU, print the accuracy, and return the exit status."""
    argparse.ArgumentParser(description="Train a softmax regression with Rose and CuPy on the GPU.").parse_args(argv)
    try:
        import cupy  # noqa: PLC0415  (an error here is reported below)
    except ImportError as error:
        print(f"cupy_loop.py: CuPy cannot be imported: {error}", file=sys.stderr)
        return 2
    if not cupy.cuda.is_available():
        print("cupy_loop.py: CuPy finds no CUDA device", file=sys.stderr)
        return 2
    from rose_cupy import Rose  # noqa: PLC0415  (it needs CuPy)

    print(f"accuracy {train(cupy, Rose):.1%} on the 1,797 training images")
    return 0


def train(xp: Any, rose: Any, steps: int = 200, peak_lr: float = 0.1) -> float:
    """Train with all images in one batch, and return the accuracy on them."""
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
        if step % 20 == 0:  # reading the loss waits for the device
            loss = -xp.log((probabilities * targets).sum(axis=1)).mean()
            progress.set_postfix(loss=f"{float(loss):.4f}", refresh=False)
    return float((logits.argmax(axis=1) == labels).mean())


if __name__ == "__main__":
    sys.exit(main())
