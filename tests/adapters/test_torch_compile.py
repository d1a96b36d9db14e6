"""torch.compile(optimizer.step) has the bits of eager steps, in one graph, and does not recompile for a new lr."""

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from rose_torch import Rose, attach
from rose_torch.graph import step_in_graph
from tests.adapters.models import assert_same_model, grads, model, parameter, tensor
from tests.adapters.refusals import raises, refuses
from tests.bits import assert_same_bits

pytestmark = [
    # torch.compile causes these: it imports deprecated modules, and reads `grad` of every tensor in a frame.
    pytest.mark.filterwarnings(r"ignore:`torch\.jit\.script_method` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings(r"ignore:The \.grad attribute of a Tensor that is not a leaf:UserWarning"),
]

RATES = [0.5, 0.25, 0.0, 0.125, 0.3]

Params = dict[str, nn.Parameter]


@pytest.fixture(autouse=True)
def compiler() -> Iterator[None]:
    """Reset the compiler, so that each test counts its graphs only."""
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def parameters(dtype: str) -> Params:
    return {name: parameter(x) for name, x in model(dtype).items()}


def set_grads(params: Params, step: int, dtype: str) -> None:
    for name, grad in grads(step, dtype).items():
        params[name].grad = tensor(grad)


def run(params: Params, optimizer: Rose, step_of: Callable[[], Any], dtype: str) -> None:
    torch.manual_seed(0)
    for number, lr in enumerate(RATES):
        set_grads(params, number, dtype)
        if isinstance(held := optimizer.param_groups[0]["lr"], torch.Tensor):
            held.fill_(lr)
        else:
            optimizer.param_groups[0]["lr"] = lr
        step_of()


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "float64": ("float64", {}),
    "float32": ("float32", {"compute_dtype": "fp32"}),
    "float32 by the core": ("float32", {"fused": False}),
    "bfloat16 with portable noise": ("bfloat16", {"sr_seed": 3}),
    "bfloat16 with drawn noise": ("bfloat16", {}),
    "bfloat16 by the core": ("bfloat16", {"sr_seed": 3, "compute_dtype": "fp32", "fused": False}),
}


@pytest.mark.parametrize("lr_type", [float, torch.tensor], ids=["float lr", "tensor lr"])
@pytest.mark.parametrize(("dtype", "options"), CASES.values(), ids=CASES)
def test_a_compiled_step_is_one_graph_for_all_lrs_and_has_the_bits_of_an_eager_step(
    dtype: str, options: dict[str, Any], lr_type: Callable[[float], Any]
) -> None:
    params, expected = parameters(dtype), parameters(dtype)
    compiled, eager = (Rose(p.values(), lr_type(0.1), wd_schedule=True, **options) for p in (params, expected))
    run(params, compiled, torch.compile(compiled.step, fullgraph=True), dtype)
    assert counters["stats"]["unique_graphs"] == 1
    run(expected, eager, eager.step, dtype)
    assert_same_model(params, expected, "rose_torch compiled")
    assert compiled.state_dict() == eager.state_dict()


def test_a_compiled_training_step_with_a_scheduler_has_the_bits_of_an_eager_one() -> None:
    def train(make: Callable[[nn.Module], Rose], *, compiled: bool) -> nn.Module:
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2))
        optimizer = make(layers)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)

        def step(x: torch.Tensor) -> None:
            optimizer.zero_grad()
            layers(x).square().sum().backward()
            optimizer.step()

        stepping = torch.compile(step, backend="aot_eager") if compiled else step
        graphs = []
        for number in range(5):
            stepping(torch.full((3, 6), 1.0 + number))
            scheduler.step()
            graphs.append(counters["stats"]["unique_graphs"])
        assert len(set(graphs[1:])) == 1  # before the first step, gradients are None
        return layers

    for make in (lambda m: Rose(m.parameters(), lr=0.1), lambda m: attach(m, lr=0.1)):
        expected = train(make, compiled=False)
        layers = train(make, compiled=True)
        for param, want in zip(layers.parameters(), expected.parameters(), strict=True):
            assert_same_bits(param, want, backend="rose_torch compiled")


def test_groups_and_skipped_parameters_keep_the_index_of_the_noise() -> None:
    params, expected = parameters("bfloat16"), parameters("bfloat16")
    for held, compiled in ((params, True), (expected, False)):
        set_grads(held, 0, "bfloat16")
        held["bias"].grad = None
        first, *others = held.values()
        optimizer = Rose([{"params": [first], "lr": 0.5}, {"params": others[:2]}], lr=0.1, sr_seed=0)
        optimizer.add_param_group({"params": others[2:], "lr": 0.25})
        optimizer.load_state_dict(optimizer.state_dict())
        (torch.compile(optimizer.step, fullgraph=True) if compiled else optimizer.step)()
    assert_same_model(params, expected, "rose_torch compiled")


def test_a_compiled_step_without_any_gradient_is_counted() -> None:
    optimizer = Rose(parameters("float32").values(), lr=0.1)
    torch.compile(optimizer.step, fullgraph=True)()
    assert optimizer.param_groups[0]["step"] == 1


def test_a_compiled_step_that_raises_changes_nothing() -> None:
    params = parameters("float32")
    optimizer = Rose(params.values(), lr=0.1)
    set_grads(params, 0, "float32")
    step = torch.compile(optimizer.step, fullgraph=True)
    step()
    optimizer.param_groups[0]["lr"] = float("nan")
    with refuses(optimizer, ValueError, "lr must be a finite number >= 0, got nan"):
        step()


def test_a_compiled_step_after_a_change_of_param_groups_raises() -> None:
    params = parameters("float32")
    first, *others = params.values()
    optimizer = Rose([{"params": [first]}, {"params": others}], lr=0.1)
    set_grads(params, 0, "float32")
    step = torch.compile(optimizer.step, fullgraph=True)
    step()
    del optimizer.param_groups[0]
    text = (
        "param_groups were changed by hand, which a compiled step does not see; allowed are add_param_group, "
        "load_state_dict and new options of a group"
    )
    with refuses(optimizer, RuntimeError, text):
        step()


def test_a_graph_of_a_deleted_optimizer_raises() -> None:
    params = parameters("float32")
    optimizer = Rose(params.values(), lr=0.1)
    number = optimizer._number
    del optimizer
    gc.collect()
    with raises(RuntimeError, "the optimizer whose step this graph takes is gone; keep it as long as the graph"):
        step_in_graph(number, [list(params.values())])


def test_a_compiled_step_of_dtensors_ends_the_graph_and_has_the_bits_of_an_eager_step() -> None:
    from torch.distributed.tensor import Shard, distribute_tensor

    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        mesh = torch.distributed.init_device_mesh("cpu", (1,))
        weight, expected = parameter(model()["weight"], grads(0)["weight"]), parameter(model()["weight"])
        expected.grad = weight.grad
        sharded = nn.Parameter(distribute_tensor(weight.detach(), mesh, [Shard(0)]))
        sharded.grad = distribute_tensor(weight.grad, mesh, [Shard(0)])
        optimizer = Rose([sharded], lr=0.1)
        torch.compile(optimizer.step)()
        Rose([expected], lr=0.1).step()
        assert_same_bits(sharded.to_local().detach(), expected, backend="rose_torch compiled")
    finally:
        torch.distributed.destroy_process_group()


def test_compiled_steps_of_two_optimizers_update_separate_parameters() -> None:
    held = [parameters("float32") for _ in range(2)]
    optimizers = [Rose(params.values(), lr) for params, lr in zip(held, (0.1, 0.5), strict=True)]
    expected = [parameters("float32") for _ in range(2)]
    for params, optimizer in zip(held, optimizers, strict=True):
        set_grads(params, 0, "float32")
        torch.compile(optimizer.step, fullgraph=True)()
    for params, compiled, lr in zip(expected, held, (0.1, 0.5), strict=True):
        set_grads(params, 0, "float32")
        Rose(params.values(), lr).step()
        assert_same_model(compiled, params, "rose_torch compiled")


def test_a_compiled_step_returns_the_loss_of_its_closure() -> None:
    weight = parameter(model()["weight"])
    optimizer = Rose([weight], lr=0.1)

    def closure() -> torch.Tensor:
        loss = weight.square().sum()
        loss.backward()
        return loss

    before = weight.detach().clone()
    loss = torch.compile(optimizer.step, backend="aot_eager")(closure)
    assert_same_bits(loss, before.square().sum())
    other = parameter(model()["weight"])
    other.grad = 2 * before
    Rose([other], lr=0.1).step()
    assert_same_bits(weight, other, backend="rose_torch compiled")


def test_a_capture_in_a_cuda_graph_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    params = parameters("float32")
    optimizer = Rose(params.values(), lr=0.1)
    set_grads(params, 0, "float32")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    text = (
        "Rose.step() cannot be captured in a CUDA graph, which would repeat its lr, decay and noise at each replay; "
        "capture forward and backward, and call step() outside"
    )
    with refuses(optimizer, RuntimeError, text):
        optimizer.step()
