"""Elementwise rules on DTensors have the bits of one process, and other rules refuse DTensors."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rose_core import peers
from rose_torch import Optimizer
from tests.bits import assert_same_bits, words
from tests.distributed.layouts import LAYOUTS, as_tensor, shard
from tests.distributed.worlds import World
from tests.strategies import fill
from tests.tally import count

RULES = {
    "AdamW": peers.AdamW(),
    "bfloat16 states": peers.Adam(state_dtype="bfloat16"),
    "NAdamW": peers.NAdamW(momentum_decay=4e-3),
    "Signum": peers.Signum(use_shape_scaling=True),
    "ScheduleFree": peers.ScheduleFree(peers.SGD()),
    "SophiaH": peers.SophiaH(state_dtype="bfloat16"),
}
SHAPES = [(13, 11), (5, 6), (1, 300), (300, 1)]
STEPS = 3


def compare(_: int, size: int) -> dict[str, tuple[int, int]]:
    """Take steps with sharded and with whole parameters of all layouts, and count the differences."""
    rng, tally = np.random.default_rng(3), {}
    for layout in LAYOUTS[size].values():
        for name, rule in RULES.items():
            for dtype in ("float32", "bfloat16"):
                values = [as_tensor(fill("normal", rng, shape, dtype)) for shape in SHAPES]
                whole = [nn.Parameter(x.clone()) for x in values]
                sharded = [nn.Parameter(shard(x, layout)) for x in values]
                optimizers = [Optimizer(params, rule, lr=0.125) for params in (whole, sharded)]
                for _step in range(STEPS):
                    for param, part in zip(whole, sharded, strict=True):
                        param.grad = as_tensor(fill("normal", rng, tuple(param.shape), dtype))
                        part.grad = shard(param.grad, layout)
                    for optimizer, params in zip(optimizers, (whole, sharded), strict=True):
                        if name == "SophiaH":
                            optimizer.update_hessian([param.grad for param in params])
                        optimizer.step()
                    optimizers[1].load_state_dict(optimizers[1].state_dict())
                elements, differences = tally.get(name, (0, 0))
                evaluated = [optimizer.evaluation_params()[0] for optimizer in optimizers]
                for param, part, *both in zip(whole, sharded, *evaluated, strict=True):
                    states = [optimizer.state[x] for optimizer, x in zip(optimizers, (param, part), strict=True)]
                    pairs = [(param.detach(), part), (both[0].detach(), both[1])]
                    pairs += [(states[0][key], states[1][key]) for key in states[0]]
                    for expected, actual in pairs:
                        if isinstance(expected, torch.Tensor):
                            is_whole = expected.shape != param.shape  # a number of the state
                            want = words(expected if is_whole else shard(expected, layout)._local_tensor)
                            got = words(actual if is_whole else actual._local_tensor)
                            assert got.shape == want.shape
                            elements, differences = elements + got.size, differences + np.count_nonzero(got != want)
                        else:
                            assert actual == expected
                tally[name] = elements, differences
    return tally


def assert_no_differences(world: World, size: int) -> None:
    for tally in world.run(compare, size):
        for name, (elements, differences) in tally.items():
            count(f"{size} ranks, peers.{name}", elements, differences)
            assert differences == 0


def test_two_ranks_have_the_bits_of_one_process(two: World) -> None:
    assert_no_differences(two, 2)


@pytest.mark.slow
def test_four_ranks_have_the_bits_of_one_process(four: World) -> None:
    assert_no_differences(four, 4)


def refusals(_: int) -> list[str]:
    """Return the errors of rules that are not elementwise."""
    layout, messages = LAYOUTS[2]["2: rows"], []
    for rule in (peers.LAMB(), peers.SpikeGuard(peers.Adam()), peers.Rose()):
        param = nn.Parameter(shard(torch.ones(4, 3), layout))
        optimizer = Optimizer([("weight", param)], rule, lr=0.1)
        param.grad = shard(torch.ones(4, 3), layout)
        with pytest.raises(TypeError) as error:
            optimizer.step()
        assert_same_bits(param.detach()._local_tensor, np.ones((2, 3), np.float32))
        messages.append(str(error.value))
    return messages


def test_a_rule_that_is_not_elementwise_is_refused_by_name(two: World) -> None:
    expected = [
        f"parameter 'weight' is a DTensor, and the rule {name} is not elementwise; DTensors need an elementwise rule"
        for name in ("LAMB", "SpikeGuard", "Rose")
    ]
    assert two.run(refusals) == [expected, expected]


def partial_gradient(_: int) -> Any:
    """Take a step with a gradient and a Hessian that backward left Partial."""
    from torch.distributed.tensor import DTensor, Partial

    layout = LAYOUTS[2]["2: rows"]
    param = nn.Parameter(shard(torch.ones(4, 3), layout))
    param.grad = DTensor.from_local(torch.ones(4, 3), param.device_mesh, [Partial()], run_check=False)
    Optimizer([param], peers.SGD(), lr=0.25, weight_decay=0.0).step()
    sophia = Optimizer([param], peers.SophiaH(betas=(0.9, 0.5)), lr=0.25)
    sophia.update_hessian([param.grad])
    with pytest.raises(TypeError, match="parameter 0 of group 0 is a DTensor and its Hessian a Tensor"):
        sophia.update_hessian([torch.ones(4, 3)])
    return param.detach()._local_tensor.numpy(), sophia.state[param]["hessian"]._local_tensor.numpy()


def test_a_partial_gradient_or_hessian_is_reduced(two: World) -> None:
    for local, hessian in two.run(partial_gradient):
        assert_same_bits(local, np.full((2, 3), 0.5, np.float32))
        assert_same_bits(hessian, np.ones((2, 3), np.float32))
