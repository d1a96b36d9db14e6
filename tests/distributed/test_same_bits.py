"""A step of sharded parameters in any layout has the bits of a step on one process."""

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from rose_torch import Rose
from rose_torch.distributed import collectives
from rose_torch.distributed.collectives import AllReduce
from tests.bits import DTYPES, words
from tests.distributed.layouts import LAYOUTS, as_tensor, shard
from tests.distributed.worlds import World
from tests.strategies import KINDS, fill
from tests.tally import count

DRAWS = 16  # optimizers, each with a parameter of every layout
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
        "max_step": None if rng.random() < 0.5 else float(rng.choice([0.125, 1.5])),
        "compute_dtype": compute,
        "bf16_sr": bool(compute not in ("fp16", "bf16") and rng.random() < 0.8),
        "sr_seed": int(rng.integers(2**32)),
    }


def drawn(rng: np.random.Generator) -> tuple[str, Tensor, list[Tensor | None]]:
    """Draw the dtype and the values of a parameter, and its gradient at each step."""
    dtype, shape = str(rng.choice(list(DTYPES))), SHAPES[rng.integers(len(SHAPES))]
    param = as_tensor(fill("normal", rng, shape, dtype))
    grads = [as_tensor(fill(str(rng.choice(list(KINDS))), rng, shape, dtype)) for _ in range(STEPS)]
    return dtype, param, [None if rng.random() < 0.1 else grad for grad in grads]


def compare(_: int, size: int, seed: int) -> Tally:
    """Take steps with sharded and with whole parameters of all layouts at once, and count the differences."""
    tally: dict[tuple[str, str], np.ndarray] = defaultdict(lambda: np.zeros(3, np.int64))
    rng = np.random.default_rng(seed)
    layouts = [*LAYOUTS[size], "plain"]
    for _draw in range(DRAWS):
        names = [str(name) for name in rng.permutation(layouts)]
        values = [drawn(rng) for _ in names]
        options = options_of(rng)
        whole = [nn.Parameter(param.clone()) for _, param, _ in values]
        shards = [
            nn.Parameter(param.clone() if name == "plain" or param.ndim == 0 else shard(param, LAYOUTS[size][name]))
            for name, (_, param, _) in zip(names, values, strict=True)
        ]
        optimizers = Rose(whole, **options, fused=False), Rose(shards, **options, fused=False)
        for step in range(STEPS):
            for sharded, param, (_, _, grads), name in zip(shards, whole, values, names, strict=True):
                param.grad = grads[step]
                is_sharded = grads[step] is not None and type(sharded) is not nn.Parameter
                sharded.grad = shard(grads[step], LAYOUTS[size][name]) if is_sharded else grads[step]
            for optimizer in optimizers:
                optimizer.step()
        for sharded, param, (dtype, _, _), name in zip(shards, whole, values, names, strict=True):
            is_sharded = type(sharded) is not nn.Parameter
            expected = words(shard(param.detach(), LAYOUTS[size][name])._local_tensor if is_sharded else param)
            actual = words(sharded._local_tensor if is_sharded else sharded)
            assert actual.shape == expected.shape
            tally[name if is_sharded else "plain", dtype] += 1, actual.size, np.count_nonzero(actual != expected)
    return {key: tuple(map(int, counts)) for key, counts in tally.items()}


def assert_no_differences(world: World, size: int) -> None:
    tallies = world.run(compare, size, 5)
    mismatches = {}
    for rank, tally in enumerate(tallies):
        for (name, dtype), counts in tally.items():
            count(f"{size} ranks, {name}", counts[1], counts[2], cases=counts[0])
            if counts[2]:
                mismatches[rank, name, dtype] = counts
    assert not mismatches


def test_two_ranks_have_the_bits_of_one_process(two: World) -> None:
    assert_no_differences(two, 2)


def test_four_ranks_have_the_bits_of_one_process(four: World) -> None:
    assert_no_differences(four, 4)


def compare_without_all_reduce(_: int, size: int, seed: int) -> Tally:
    """Compare with collectives that return the values of the rank itself."""

    def no_all_reduce(requests: dict[int, AllReduce]) -> dict[int, Tensor]:
        return {number: request.values for number, request in requests.items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collectives, "_all_reduce", no_all_reduce)
        return compare(0, size, seed)


def test_shards_without_an_all_reduce_differ_from_one_process(two: World) -> None:
    """Proof that the tests above can fail."""
    mismatches = Counter[str]()
    for tally in two.run(compare_without_all_reduce, 2, 5):
        for (name, _), counts in tally.items():
            mismatches[name] += counts[2]
    assert all(mismatches[name] > 0 for name in ("2: rows", "2: columns", "2: last axis"))
    assert mismatches["2: replicated"] == mismatches["plain"] == 0
