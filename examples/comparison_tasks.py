"""The tasks of `compare_rules.py`: a network for digits on NumPy, and a byte-level transformer in PyTorch."""

import sysconfig
from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from digits_network import accuracy, initial_parameters, loss_and_gradients
from programs.transformer import Transformer
from torch import Tensor, nn
from train_digits import load_split, shuffled_batches

import rose_numpy
import rose_torch
from rose_core.peers import Rule

__all__ = ["TASKS", "Score", "Training"]

CONTEXT, HEADS, BATCH_SIZE = 32, 2, 8
# Modules that are one file in every supported version of Python.
SOURCES: Final = ("argparse", "ast", "codecs", "configparser", "difflib", "doctest", "inspect", "mailbox", "optparse")


class Score(NamedTuple):
    """The mean cross-entropy, in nats, and the share of correct predictions, on unseen data."""

    loss: float
    accuracy: float


class Training(NamedTuple):
    """An optimizer, an iterator over the arguments of its `step`, and a function that returns the score."""

    optimizer: Any
    gradients: Iterator[Any]
    evaluate: Callable[[], Score]


def digits(rule: Rule, _: tuple[int, int], seed: int, **options: Any) -> Training:
    """Return the training of the network for digits. 360 of the 1,797 images are not trained on."""
    data, rng = load_split(seed), np.random.default_rng(seed)
    weights = initial_parameters(rng)
    optimizer = rose_numpy.Optimizer(weights, rule, **options)
    targets = np.eye(10, dtype=np.float32)[data.test_labels]

    def evaluate() -> Score:
        params = optimizer.evaluation_params()
        loss, _ = loss_and_gradients(params, data.test_images, targets)
        return Score(loss, accuracy(params, data.test_images, data.test_labels))

    gradients = (loss_and_gradients(weights, *batch)[1] for batch in shuffled_batches(data, 64, rng))
    return Training(optimizer, gradients, evaluate)


def transformer(rule: Rule, sizes: tuple[int, int], seed: int, **options: Any) -> Training:
    """Return the training of a transformer. `sizes` are its width and its number of layers.

    Rules for matrices leave the embedding and the head to AdamW.
    """
    text = library_bytes()
    known, unknown = text[: len(text) * 9 // 10], text[len(text) * 9 // 10 :]
    torch.manual_seed(seed)
    width, depth = sizes
    model, random = Transformer(256, CONTEXT, width, HEADS, depth), torch.Generator().manual_seed(seed)
    named = dict(model.named_parameters())
    layers = [name for name in named if name.startswith("layers")]
    others = [name for name in named if name not in layers]
    groups: list[dict[str, Any]] = [{"params": [named[name] for name in part]} for part in (layers, others)]
    groups[1]["rule"] = getattr(rule, "others", rule)
    optimizer = rose_torch.Optimizer(groups, rule, **options)

    def gradients() -> Iterator[None]:
        while True:
            optimizer.zero_grad()
            x, y = windows(known, torch.randint(len(known) - CONTEXT, (BATCH_SIZE,), generator=random))
            nn.functional.cross_entropy(model(x).flatten(0, 1), y).backward()
            yield None

    @torch.no_grad()
    def evaluate() -> Score:
        params = dict(zip(layers + others, chain.from_iterable(optimizer.evaluation_params()), strict=True))
        x, y = windows(unknown, torch.linspace(0, len(unknown) - CONTEXT - 1, 256).long())
        logits = torch.func.functional_call(model, params, x).flatten(0, 1)
        return Score(float(nn.functional.cross_entropy(logits, y)), float((logits.argmax(1) == y).float().mean()))

    return Training(optimizer, gradients(), evaluate)


def windows(text: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bytes from each start on, of shape (starts, CONTEXT), and the bytes that follow each, flattened."""
    rows = text[starts[:, None] + torch.arange(CONTEXT + 1)]
    return rows[:, :-1], rows[:, 1:].flatten()


@cache
def library_bytes() -> Tensor:
    """Return the sources of some modules of Python's standard library, as bytes."""
    sources = b"".join(Path(sysconfig.get_path("stdlib"), f"{name}.py").read_bytes() for name in SOURCES)
    return torch.from_numpy(np.frombuffer(sources, np.uint8).astype(np.int64))


TASKS: Final[dict[str, Callable[..., Training]]] = {"digits": digits, "transformer": transformer}
