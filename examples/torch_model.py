"""Train a PyTorch model with Rose: bfloat16 weights, two parameter groups, a schedule, and a resumed run.

    python examples/torch_model.py

A small convolutional network learns scikit-learn's digits. Its weights are stored in bfloat16 and rounded
stochastically, without a float32 copy. With `sr_seed` the rounding noise depends only on the step, so a run that
is resumed from a checkpoint has the same bits as an uninterrupted run.
"""

import argparse
import io
from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

from rose_torch import Rose

STEPS: Final = 160
BATCH_SIZE: Final = 128
MAX_LR: Final = 0.01


class Run(NamedTuple):
    """The parts of a training run that have a state."""

    model: nn.Module
    optimizer: Rose
    schedule: OneCycleLR


def main(argv: Sequence[str] | None = None) -> None:
    """Train, save a checkpoint halfway, resume from it, and compare the final weights."""
    parser = argparse.ArgumentParser(description="Train a small PyTorch network with Rose, and resume the run.")
    parser.parse_args(argv)
    images, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
    images = (images / 8.0 - 1.0).to(torch.bfloat16).reshape(-1, 1, 8, 8)
    train_rows, test_rows = train_test_split(torch.arange(len(labels)), test_size=0.2, random_state=0)
    first_half, second_half = range(STEPS // 2), range(STEPS // 2, STEPS)

    run = build()
    train(run, images[train_rows], labels[train_rows], first_half)
    checkpoint = io.BytesIO()  # in memory here; a real run saves a file
    torch.save({name: part.state_dict() for name, part in run._asdict().items()}, checkpoint)
    train(run, images[train_rows], labels[train_rows], second_half)

    with torch.no_grad():
        right = run.model(images[test_rows]).argmax(dim=1) == labels[test_rows]
    print(f"test accuracy {right.float().mean():.1%} ({len(right)} images)")

    checkpoint.seek(0)
    saved, resumed = torch.load(checkpoint), build()
    for name, part in resumed._asdict().items():
        part.load_state_dict(saved[name])
    train(resumed, images[train_rows], labels[train_rows], second_half)
    pairs = zip(run.model.parameters(), resumed.model.parameters(), strict=True)
    same = all(torch.equal(one, other) for one, other in pairs)
    print(f"resumed at step {second_half.start}: the weights are {'the same to the last bit' if same else 'DIFFERENT'}")


def build() -> Run:
    """Return a new model in bfloat16 with its optimizer and its schedule."""
    torch.manual_seed(0)
    model = nn.Sequential(block(1, 16), block(16, 32), nn.Flatten(), nn.Linear(128, 10)).to(torch.bfloat16)
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]  # biases and norms
    # With wd_schedule=True the decay follows the schedule: at the peak, a step multiplies by 1 - weight_decay.
    optimizer = Rose(
        [{"params": matrices, "weight_decay": 1e-3}, {"params": vectors, "weight_decay": 0.0}],
        lr=MAX_LR,
        wd_schedule=True,
        sr_seed=0,
    )
    # Rose has no momentum, so OneCycleLR cannot cycle it.
    schedule = OneCycleLR(optimizer, max_lr=MAX_LR, total_steps=STEPS, cycle_momentum=False)
    return Run(model, optimizer, schedule)


def block(channels_in: int, channels_out: int) -> nn.Module:
    """Return a convolution with pooling, which halves the height and the width of an image."""
    convolution = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1)
    return nn.Sequential(convolution, nn.GroupNorm(4, channels_out), nn.ReLU(), nn.MaxPool2d(2))


def train(run: Run, images: Tensor, labels: Tensor, steps: range) -> None:
    """Run the given steps. The batch of a step depends only on the number of the step."""
    progress = tqdm(steps, "training", initial=steps.start, total=steps.stop, unit="step")
    for step in progress:
        batch = torch.randint(len(labels), (BATCH_SIZE,), generator=torch.Generator().manual_seed(step))
        loss = nn.functional.cross_entropy(run.model(images[batch]).float(), labels[batch])
        run.optimizer.zero_grad()
        loss.backward()
        run.optimizer.step()
        run.schedule.step()
        progress.set_postfix(loss=f"{loss.item():.4f}", refresh=False)


if __name__ == "__main__":
    main()
