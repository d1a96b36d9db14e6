"""Measure a step on parameters that are sharded over processes: its time, its collectives and the bytes sent.

    python examples/benchmark_sharded.py
    python examples/benchmark_sharded.py --ranks 4 --width 512 --dtype bfloat16

Each block has a layer norm and two linear layers, with six parameters; the default is 17 blocks. The processes
communicate over gloo, and each has one thread. FSDP2 shards rows, HSDP also replicates these shards, and tensor
parallelism shards columns. AdamW is an example of a step without communication. The first two rows of the table are
a single process, with and without the compiled kernels. Sharded parameters are updated without the kernels.
"""

import argparse
import functools
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import Any, Final

import torch
from arguments import integer_in
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import Placement, Replicate, Shard, distribute_tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from tqdm import tqdm

import rose_torch
from rose_kernels import resolve_fused

DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_WARM_UPS: Final = 2

Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def rose(params: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return Rose."""
    return rose_torch.Rose(params, lr=1e-3, sr_seed=0, fused=resolve_fused(None) is None)


def rose_of_core(params: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return Rose without compiled kernels, as for sharded parameters."""
    return rose_torch.Rose(params, lr=1e-3, sr_seed=0, fused=False)


def adamw(params: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return AdamW with a loop over the parameters."""
    return torch.optim.AdamW(params, lr=1e-3, foreach=False)


@dataclass
class Contender:
    """An optimizer, the layout of its parameters, and its measurements. A layout of None is a single process."""

    name: str
    make: Make
    layout: tuple[tuple[int, ...], tuple[Placement, ...]] | None
    seconds: list[float] = field(default_factory=list)
    collectives: int = 0
    sent: int = 0


class Traffic(TorchDispatchMode):
    """Counts the collectives, and the bytes that a rank sends in them."""

    def __init__(self) -> None:
        super().__init__()
        self.collectives = self.sent = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count the operation if it is a collective, and run it."""
        if func.namespace == "c10d":
            self.collectives += 1
            self.sent += sum(leaf.nbytes for leaf in tree_leaves(args) if isinstance(leaf, Tensor))
        return func(*args, **(kwargs or {}))


def main(argv: Sequence[str] | None = None) -> int:
    """Start the processes, and return the exit status. The first process prints the table."""
    args = build_parser().parse_args(argv)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"tcp://localhost:{free.getsockname()[1]}"
    torch.multiprocessing.spawn(run, (address, args), nprocs=args.ranks)
    return 0


def run(rank: int, address: str, args: argparse.Namespace) -> None:
    """Run one of the processes."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=args.ranks)
    contenders = measured(list(contenders_on(args.ranks)), args)
    if rank == 0:
        shown = table(contenders, args)
        (Console(width=200) if args.markdown else Console()).print(shown)
    torch.distributed.destroy_process_group()


def contenders_on(ranks: int) -> Iterator[Contender]:
    """Yield the contenders for this number of ranks."""
    yield Contender("Rose, one process", rose, None)
    yield Contender("Rose, one process, core", rose_of_core, None)
    yield Contender("Rose, FSDP2", rose, ((ranks,), (Shard(0),)))
    if ranks % 2 == 0 and ranks > 2:
        yield Contender("Rose, HSDP", rose, ((2, ranks // 2), (Replicate(), Shard(0))))
    yield Contender("Rose, columns", rose, ((ranks,), (Shard(1),)))
    yield Contender("AdamW, FSDP2", adamw, ((ranks,), (Shard(0),)))


def measured(contenders: list[Contender], args: argparse.Namespace) -> list[Contender]:
    """Run steps of all contenders in interleaved rounds, and return the contenders with their measurements."""
    rank = torch.distributed.get_rank()
    optimizers = [_optimizer(contender, args) for contender in contenders]
    pairs = list(zip(contenders, optimizers, strict=True))
    for contender, optimizer in pairs:
        for _ in range(_WARM_UPS):
            _step(contender, optimizer)
        with Traffic() as traffic:
            _step(contender, optimizer)
        contender.collectives, contender.sent = traffic.collectives, traffic.sent
    for _ in tqdm(range(args.rounds), "rounds", leave=False, disable=rank > 0):
        for contender, optimizer in pairs:
            torch.distributed.barrier()
            seconds = torch.tensor(_step(contender, optimizer))
            torch.distributed.all_reduce(seconds, torch.distributed.ReduceOp.MAX)
            contender.seconds.append(float(seconds))
    return contenders


def _optimizer(contender: Contender, args: argparse.Namespace) -> torch.optim.Optimizer:
    """Return an optimizer whose parameters have gradients. All contenders have the same values."""
    generator = torch.Generator().manual_seed(0)
    params = []
    for shape in _shapes(args.blocks, args.width):
        values, grad = (_laid_out(torch.randn(shape, generator=generator), contender, args) for _ in range(2))
        params.append(nn.Parameter(values))
        params[-1].grad = grad
    return contender.make(params)


def _shapes(blocks: int, width: int) -> list[tuple[int, ...]]:
    return [(width,), (width,), (4 * width, width), (4 * width,), (width, 4 * width), (width,)] * blocks


def _laid_out(whole: Tensor, contender: Contender, args: argparse.Namespace) -> Tensor:
    whole = whole.to(DTYPES[args.dtype])
    if contender.layout is None:
        return whole
    mesh, placements = contender.layout
    of_rank = [Shard(p.dim % whole.ndim) if isinstance(p, Shard) else p for p in placements]
    return distribute_tensor(whole, _mesh(mesh), of_rank, src_data_rank=None)


@functools.cache
def _mesh(shape: tuple[int, ...]) -> DeviceMesh:
    return init_device_mesh("cpu", shape)


def _step(contender: Contender, optimizer: torch.optim.Optimizer) -> float:
    """Run a step and return the seconds. A contender of a single process runs on the first rank only."""
    start = perf_counter()
    if contender.layout is not None or torch.distributed.get_rank() == 0:
        optimizer.step()
    return perf_counter() - start


def table(contenders: Sequence[Contender], args: argparse.Namespace) -> Table:
    """Return the table of the measurements."""
    count, elements = 6 * args.blocks, sum(map(_elements, _shapes(args.blocks, args.width)))
    grid = Table(
        "",
        title=f"{count} parameters, {elements / 1e6:,.1f} M elements of {args.dtype}, {args.ranks} ranks",
        title_justify="left",
        box=box.MARKDOWN if args.markdown else box.SIMPLE_HEAD,
    )
    for header in ("ms", "least to most", "collectives", "KiB sent"):
        grid.add_column(header, justify="right")
    for row in contenders:
        ms, least, most = (f"{1e3 * of(row.seconds):,.1f}" for of in (median, min, max))
        grid.add_row(row.name, ms, f"{least}-{most}", str(row.collectives), f"{row.sent / 1024:,.1f}")
    return grid


def _elements(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description="Measure a step on parameters that are sharded over processes.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add, count = parser.add_argument, integer_in(1, 10**6)
    add("--ranks", type=count, default=2, help="number of processes")
    add("--blocks", type=count, default=17, help="number of blocks, of six parameters each")
    add("--width", type=count, default=256, help="width of the layers")
    add("--dtype", choices=tuple(DTYPES), default="float32", help="dtype of the parameters")
    add("--rounds", type=count, default=9, help="number of rounds; the table shows their median")
    add("--markdown", action="store_true", help="print the table in Markdown")
    return parser


if __name__ == "__main__":
    sys.exit(main())
