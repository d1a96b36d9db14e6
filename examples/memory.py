"""Measure the peak memory of training with rose_torch.attach, and with ordinary steps of Rose, SGD and AdamW.

    MALLOC_MMAP_THRESHOLD_=1048576 python examples/memory.py
    python examples/memory.py --dtypes bfloat16 --width 1024 --layers 8

The model is a transformer with 100 M parameters by default. Its batch is one short sequence, so parameters, gradients
and the state of the optimizer take nearly all of the memory. The result is the peak during a whole training step:
forward, backward and update. The embedding is also the output layer, so its gradient is a sum. Autograd holds this
sum and both of its summands at the same time.

NOTE: [heap fragmentation] By default glibc keeps freed blocks of up to 32 MiB in its heap. Small allocations then
fragment them, so a large gradient does not fit there again. With MALLOC_MMAP_THRESHOLD_=1048576 in the environment,
glibc returns each block above 1 MiB to the system when it is freed.
"""

import argparse
import gc
import sys
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import torch
from arguments import Listed, integer_in
from benchmark_measurement import DTYPES, memory_obstacle, peak, reset_peak
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from tqdm import tqdm

import rose_torch
from rose_kernels import resolve_fused

LR: Final = 1e-3
FUSED: Final = resolve_fused(None) is None  # if there are kernels, wait for them: they need the least memory
OPTIMIZERS: Final[dict[str, Callable[[nn.Module], torch.optim.Optimizer]]] = {
    "Rose, attached": lambda model: rose_torch.attach(model, lr=LR, sr_seed=0, fused=FUSED),
    "Rose": lambda model: rose_torch.Rose(model.parameters(), lr=LR, sr_seed=0, fused=FUSED),
    "SGD": lambda model: torch.optim.SGD(model.parameters(), lr=LR),
    "AdamW": lambda model: torch.optim.AdamW(model.parameters(), lr=LR),
}
_STEPS: Final = 3


class Measured(NamedTuple):
    """The bytes of all parameters, of the largest parameter, and of the peak during training."""

    parameters: int
    largest: int
    peak: int


class Transformer(nn.Module):
    """A transformer encoder. Its output layer and its embedding share one weight."""

    def __init__(self, vocabulary: int, width: int, layers: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, dtype=dtype)
        layer = [
            nn.TransformerEncoderLayer(width, width // 64, 4 * width, dropout=0.0, batch_first=True, dtype=dtype)
            for _ in range(layers)
        ]
        self.layers = nn.Sequential(*layer)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the loss of predicting the next token."""
        logits = self.layers(self.embedding(tokens)) @ self.embedding.weight.T
        return nn.functional.cross_entropy(logits[0, :-1].float(), tokens[0, 1:])


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table for each dtype, and return the exit status."""
    args = build_parser().parse_args(argv)
    if obstacle := memory_obstacle():
        print(f"memory cannot be measured: {obstacle}", file=sys.stderr)
        return 2
    console = Console(width=200) if args.markdown else Console()
    for dtype in args.dtypes:
        results = {}
        for name, make in tqdm(OPTIMIZERS.items(), dtype, leave=False):
            measured(make, args.vocabulary, 64, 1, dtype)  # warm-up: libraries allocate on first use
            results[name] = measured(make, args.vocabulary, args.width, args.layers, dtype)
        console.print(title(dtype, results), "", table(results, markdown=args.markdown), "", sep="\n", soft_wrap=True)
    return 0


def measured(
    make: Callable[[nn.Module], torch.optim.Optimizer], vocabulary: int, width: int, layers: int, dtype: str
) -> Measured:
    """Train a model for a few steps, and return the peak of the last step above the memory before the training."""
    gc.collect()
    before = reset_peak()
    model = Transformer(vocabulary, width, layers, DTYPES[dtype])
    optimizer = make(model)
    tokens = torch.arange(32)[None] % vocabulary
    for _ in range(_STEPS):
        optimizer.zero_grad()
        reset_peak()
        model(tokens).backward()
        optimizer.step()
    sizes = [parameter.nbytes for parameter in model.parameters()]
    return Measured(sum(sizes), max(sizes), peak() - before)


def title(dtype: str, results: dict[str, Measured]) -> str:
    """Return the title of a table. All of its models have the same size."""
    size = next(iter(results.values()))
    return (
        f"Peak memory of training, {dtype}: {size.parameters // DTYPES[dtype].itemsize / 1e6:,.1f} M parameters take "
        f"{_mebibytes(size.parameters)} MiB, the largest gradient takes {_mebibytes(size.largest)} MiB"
    )


def table(results: dict[str, Measured], *, markdown: bool = False) -> Table:
    """Return the table of the optimizers for a dtype."""
    grid = Table("", box=box.MARKDOWN if markdown else box.SIMPLE_HEAD)
    for header in ("peak, MiB", "beyond parameters, MiB", "x parameters"):
        grid.add_column(header, justify="right")
    for name, result in results.items():
        ratio = f"{result.peak / result.parameters:.2f}"
        grid.add_row(name, _mebibytes(result.peak), _mebibytes(result.peak - result.parameters), ratio)
    return grid


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.0f}" if count >= 10 * 2**20 else f"{count / 2**20:.1f}"


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description="Measure the peak memory of training with Rose, with rose_torch.attach, SGD and AdamW.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--dtypes",
        nargs="+",
        metavar="DTYPE",
        choices=tuple(DTYPES),
        default=Listed(DTYPES),
        help="dtypes of the parameters",
    )
    add("--width", type=_width, default=768, help="width of the model, a multiple of 64")
    add("--layers", type=integer_in(1, 10**6), default=12, help="number of layers of the model")
    add("--vocabulary", type=integer_in(1, 10**6), default=20000, help="number of tokens in the vocabulary")
    add("--markdown", action="store_true", help="print the tables in Markdown")
    return parser


def _width(text: str) -> int:
    value = integer_in(64, 10**6)(text)
    if value % 64:
        raise argparse.ArgumentTypeError(f"must be a multiple of 64, got {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
