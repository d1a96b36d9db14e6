"""Compile kernels ahead of time, for example in the image of a container, so that no training waits for them."""

import argparse
import contextlib
import sys
import time
from collections.abc import Sequence

from rose_kernels.availability import reason_of_absence
from rose_kernels.layout import Kind


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command, with the arguments of the process by default."""
    options = _parser().parse_args(arguments)
    if reason := reason_of_absence():
        sys.exit(f"there are no kernels: {reason}")
    from rose_kernels.entry import cache_folder, entry_point  # noqa: PLC0415  (it is slow to load, and --help is quick)

    print(f"cache: {cache_folder() or 'no folder is writable, so nothing will be cached'}")
    for dtypes in options.dtypes:
        kind = dtypes._replace(compute=options.compute_dtype)
        print(f"{kind.param} parameters, {kind.grad} gradients, {kind.compute}: ", end="", flush=True)
        start = time.perf_counter()
        entry_point(kind)
        print(f"{time.perf_counter() - start:.1f} s")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rose_kernels",
        description="Compile the kernels of Rose ahead of time, and cache them for the processor of this machine. "
        "Numba chooses the folder of the cache; the environment variable NUMBA_CACHE_DIR changes it.",
    )
    parser.add_argument(
        "dtypes",
        metavar="PARAM[:GRAD]",
        nargs="*",
        type=_dtypes,
        default=[_dtypes("float32")],
        help="dtypes of parameters and gradients: float64, float32, float16 or bfloat16 (default: float32). "
        "GRAD is PARAM, the default, or float32.",
    )
    parser.add_argument(
        "--compute-dtype",
        choices=("fp64", "fp32"),
        default="fp64",
        help="the option of the optimizer (default: %(default)s)",
    )
    return parser


def _dtypes(text: str) -> Kind:
    param, _, grad = text.partition(":")
    kind = Kind(param, grad or param, "fp64")
    if param not in ("float64", "float32", "float16", "bfloat16") or not kind.has_kernels:
        raise argparse.ArgumentTypeError(f"there are no kernels for {text!r}")
    return kind


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
