"""A step on parts of parameters has the bits of a step on the whole, however these lie on the ranks."""

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from rose_torch import Rose
from rose_torch.distributed import collectives
from rose_torch.distributed.collectives import AllReduce
from tests.bits import DTYPES, TALLY, words
from tests.distributed.layouts import LAYOUTS, as_tensor, shard
from tests.distributed.worlds import World
from tests.strategies import KINDS, fill

DRAWS = 16  # optimizers of each layout
STEPS = 2

SHAPES = [
    *[(), (1,), (2,), (3,), (5,), (64,), (257,), (0,), (1, 1), (1, 7), (7, 1), (2, 3), (3, 2), (5, 6), (0, 3), (3, 0)],
    *[(13, 11), (8, 8), (1, 300), (300, 1), (5, 1, 3), (2, 3, 4), (6, 2, 3, 3), (2, 1, 3, 1, 2)],
]
COMPUTES = ["fp64", "fp64", "fp32", "fp16", "bf16", None]

Tally = dict[tuple[str, str], tuple[int, int, int]]


def options_of(rng: np.random.Generator) -> dict[str, Any]:
    """Draw the options of an optimizer."""
    compute = COMPUTES[rng.integers(len(COMPUTES))]
    return {
        "lr": float(rng.choice([1e-3, 0.1, 1.0])),
        "weight_decay": float(rng.choice([0.0, 1e-4, 0.3])),
        "centralize": bool(rng.random() < 0.7),
        "stabilize": bool(rng.random() < 0.7),
        "maximize": bool(rng.random() < 0.3),
        "compute_dtype": compute,
        "bf16_sr": bool(compute not in ("fp16", "bf16") and rng.random() < 0.8),
        "sr_seed": int(rng.integers(2**32)),
    }


def drawn(rng: np.random.Generator) -> tuple[str, Tensor, list[Tensor | None]]:
    """Draw the dtype and the values of a parameter, and its gradients at each step."""
    dtype, shape = str(rng.choice(list(DTYPES))), SHAPES[rng.integers(len(SHAPES))]
    param = as_tensor(fill("normal", rng, shape, dtype))
    grads = [as_tensor(fill(str(rng.choice(list(KINDS))), rng, shape, dtype)) for _ in range(STEPS)]
    return dtype, param, [None if rng.random() < 0.1 else grad for grad in grads]


def compare(_: int, size: int, seed: int) -> Tally:
    """Step on parts and on the whole, several parameters of any layout at once, and count what differs."""
    tally: dict[tuple[str, str], np.ndarray] = defaultdict(lambda: np.zeros(3, np.int64))
    rng = np.random.default_rng(seed)
    layouts = [*LAYOUTS[size], "plain"]
    for _draw in range(DRAWS):
        names = [str(name) for name in rng.permutation(layouts)]
        values = [drawn(rng) for _ in names]
        options = options_of(rng)
        whole = [nn.Parameter(param.clone()) for _, param, _ in values]
        parts = [
            nn.Parameter(param.clone() if name == "plain" or param.ndim == 0 else shard(param, LAYOUTS[size][name]))
            for name, (_, param, _) in zip(names, values, strict=True)
        ]
        optimizers = Rose(whole, **options, fused=False), Rose(parts, **options, fused=False)
        for step in range(STEPS):
            for part, one, (_, _, grads), name in zip(parts, whole, values, names, strict=True):
                one.grad = grads[step]
                is_part = grads[step] is not None and type(part) is not nn.Parameter
                part.grad = shard(grads[step], LAYOUTS[size][name]) if is_part else grads[step]
            for optimizer in optimizers:
                optimizer.step()
        for part, one, (dtype, _, _), name in zip(parts, whole, values, names, strict=True):
            is_part = type(part) is not nn.Parameter
            expected = words(shard(one.detach(), LAYOUTS[size][name])._local_tensor if is_part else one)
            actual = words(part._local_tensor if is_part else part)
            assert actual.shape == expected.shape
            tally[name if is_part else "plain", dtype] += 1, actual.size, np.count_nonzero(actual != expected)
    return {key: tuple(map(int, counts)) for key, counts in tally.items()}


def check(world: World, size: int) -> None:
    tallies = world.run(compare, size, 5)
    mismatches = {}
    for rank, tally in enumerate(tallies):
        for (name, dtype), counts in tally.items():
            for column, count in zip(("cases", "elements", "mismatches"), counts, strict=True):
                TALLY[column][f"{size} ranks, {name}"] += count
            if counts[2]:
                mismatches[rank, name, dtype] = counts
    assert not mismatches


def test_on_two_ranks(two: World) -> None:
    check(two, 2)


def test_on_four_ranks(four: World) -> None:
    check(four, 4)


def compare_unjoined(_: int, size: int, seed: int) -> Tally:
    """Compare where each rank takes its own statistics for everyone's."""

    def own(requests: dict[int, AllReduce]) -> dict[int, Tensor]:
        return {number: request.values for number, request in requests.items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collectives, "_all_reduce", own)
        return compare(0, size, seed)


def test_parts_that_join_nothing_differ_from_the_whole(two: World) -> None:
    """So that the tests above can fail."""
    mismatches = Counter[str]()
    for tally in two.run(compare_unjoined, 2, 5):
        for (name, _), counts in tally.items():
            mismatches[name] += counts[2]
    assert all(mismatches[name] > 0 for name in ("2: rows", "2: columns", "2: last axis"))
    assert mismatches["2: replicated"] == mismatches["plain"] == 0
