"""Train a network on handwritten digits with Rose, on NumPy, PyTorch or CuPy.

    python examples/train_digits.py
    python examples/train_digits.py --backend torch --dtype bfloat16

Rose (Range-Of-Slice Equilibration) is an optimizer by Matthew E. Kieren. The data are the 1,797 images of
8 x 8 pixels in scikit-learn. The script prints the test accuracy and saves a plot. Then it replays the recorded
gradients on every installed array library, and compares the final parameters bit by bit. The exit status is 1 if
they differ.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import ml_dtypes
import numpy as np
from arguments import integer_in, positive_number
from backends import Backend, MissingBackendError, open_backend
from digits_network import LAYERS, accuracy, initial_parameters, loss_and_gradients
from matplotlib.figure import Figure
from replay import Recording, replay_everywhere, report
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from tqdm import trange

from rose_core import slice_statistics
from rose_core.schedules import warmup_cosine

DTYPES: Final = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
MOST: Final = 2**32 - 1  # the largest seed of scikit-learn


class Digits(NamedTuple):
    """Standardised images in float32, of shape (count, 64), and their labels from 0 to 9, on the host."""

    train_images: np.ndarray
    test_images: np.ndarray
    train_labels: np.ndarray
    test_labels: np.ndarray


def main(argv: Sequence[str] | None = None) -> int:
    """Train, print and plot the results, replay the gradients, and return the exit status."""
    parser = build_parser()
    args = parser.parse_args(argv)
    try:
        backend = open_backend(args.backend)
    except MissingBackendError as reason:
        parser.error(f"--backend {args.backend}: {reason}")
    if not args.no_plot and not args.plot.parent.is_dir():
        parser.error(f"--plot {args.plot}: the folder does not exist")

    digits = load_split(args.seed)
    recording = train(backend, digits, args)
    result = f"test accuracy {evaluate(backend, recording, digits):.1%}"
    print(f"{result} ({len(digits.test_labels)} images)")
    if not args.no_plot:
        plot(recording, f"Rose on handwritten digits ({args.backend}, {args.dtype}): {result}", args.plot)
        print(f"plot saved as {args.plot}")
    return 0 if report(recording, *replay_everywhere(recording)) else 1


def train(backend: Backend, digits: Digits, args: argparse.Namespace) -> Recording:
    """Train with Rose, and record the inputs of every step."""
    rng = np.random.default_rng(args.seed)
    initial = {name: value.astype(DTYPES[args.dtype]) for name, value in initial_parameters(rng).items()}
    recording = Recording(backend.name, args.seed, initial)

    parameters = {name: backend.array(value) for name, value in initial.items()}
    optimizer = backend.rose(parameters, args.lr, sr_seed=args.seed)
    batches = shuffled_batches(digits, args.batch_size, rng)
    schedule = partial(warmup_cosine, max_lr=args.lr, steps=args.steps, warmup_steps=args.steps // 10)
    progress = trange(args.steps, desc=f"training on {backend.name}", unit="step")
    for step in progress:
        lr = optimizer.param_groups[0]["lr"] = schedule(step)
        images, targets = (backend.array(batch) for batch in next(batches))
        loss, gradients = loss_and_gradients(parameters, images, targets)
        optimizer.step(gradients)

        recording.learning_rates.append(lr)
        recording.losses.append(loss)
        recording.gradients.append({name: backend.host(value) for name, value in gradients.items()})
        progress.set_postfix(loss=f"{loss:.4f}", refresh=False)
    recording.final = {name: backend.host(value) for name, value in parameters.items()}
    return recording


def load_split(seed: int) -> Digits:
    """Return the digits. A fifth is the test set, and the training set defines the scaling."""
    images, labels = load_digits(return_X_y=True)
    train_images, test_images, *both_labels = train_test_split(
        images, labels, test_size=0.2, stratify=labels, random_state=seed
    )
    scaler = StandardScaler().fit(train_images)
    both_images = (scaler.transform(part).astype(np.float32) for part in (train_images, test_images))
    return Digits(*both_images, *both_labels)


def shuffled_batches(
    digits: Digits, batch_size: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield batches of images and one-hot targets without end. Each epoch has a new order."""
    targets = np.eye(10, dtype=np.float32)[digits.train_labels]
    while True:
        order = rng.permutation(len(targets))
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            yield digits.train_images[batch], targets[batch]


def evaluate(backend: Backend, recording: Recording, digits: Digits) -> float:
    """Return the accuracy of the trained network on the test set."""
    parameters = {name: backend.array(value) for name, value in recording.final.items()}
    return accuracy(parameters, backend.array(digits.test_images), backend.array(digits.test_labels))


def plot(recording: Recording, title: str, path: Path) -> None:
    """Save a plot of the loss and of each layer's trust factor against the steps."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    figure.suptitle(title)
    loss_axes, trust_axes = figure.subplots(1, 2)

    window = max(1, len(recording.losses) // 20)
    draw(loss_axes, recording.losses, window, color="C0", label="cross-entropy")
    loss_axes.set(title="Training loss", xlabel="step", ylabel="cross-entropy of the batch", yscale="log")
    for number, layer in enumerate(LAYERS, 1):
        trust = [float(slice_statistics(step[f"{layer} weight"]).trust) for step in recording.gradients]
        draw(trust_axes, trust, window, color=f"C{number}", label=f"{layer} layer")
    trust_axes.set(title="Trust factor of each layer", xlabel="step", ylabel="trust factor", ylim=(0.0, 1.0))

    for axes in (loss_axes, trust_axes):
        axes.grid(alpha=0.3)
        axes.legend(title=f"mean of {window} steps (faint: each step)")
    figure.savefig(path, dpi=120, format="png")


def draw(axes: Any, values: list[float], window: int, *, color: str, label: str) -> None:
    """Draw the values faintly, and their moving average in full colour."""
    average = np.convolve(values, np.full(window, 1.0 / window), mode="valid")
    axes.plot(values, color=color, alpha=0.25, linewidth=0.8)
    axes.plot(np.arange(len(average)) + (window - 1) / 2, average, color=color, label=label)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description="Train a network on handwritten digits with Rose, and replay its gradients on every array library.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--backend", choices=("numpy", "torch", "cupy"), default="numpy", help="library to train on")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="float32", help="dtype of the parameters")
    parser.add_argument("--steps", type=integer_in(1, MOST), default=600, help="number of training steps")
    parser.add_argument("--batch-size", type=integer_in(1, MOST), default=64, help="number of images in a batch")
    parser.add_argument("--lr", type=positive_number, default=0.005, help="peak learning rate of the schedule")
    parser.add_argument(
        "--seed", type=integer_in(0, MOST), default=0, help="seed of the split, the parameters and the rounding"
    )
    parser.add_argument("--plot", type=Path, default=Path("train_digits.png"), help="PNG file to save the plot to")
    parser.add_argument("--no-plot", action="store_true", help="do not save a plot")
    return parser


if __name__ == "__main__":
    sys.exit(main())
