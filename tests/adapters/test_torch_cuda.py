"""rose_torch on a GPU has the bits of the CPU, and a step does not wait for the device."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rose_torch
from rose_torch import Rose
from tests.adapters.refusals import refuses
from tests.bits import assert_same_bits

pytestmark = pytest.mark.gpu

SHAPES = [(), (7,), (16, 3), (4, 3, 3, 3), (16, 3), (300, 700), (0, 3), (20_000, 9)]
NOISE: dict[str, Callable[[], dict[str, Any]]] = {
    "portable": lambda: {"sr_seed": 3},
    "from torch's generator": lambda: {"sr_seed": None},
    "from a generator": lambda: {"sr_seed": None, "bf16_sr": torch.Generator("cuda").manual_seed(5)},
    "none": lambda: {"bf16_sr": False},
}


@pytest.fixture(autouse=True)
def device() -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")


@pytest.fixture
def waiting_raises() -> Iterator[None]:
    """Make torch raise an error when the host waits for the device."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def params(dtype: torch.dtype = torch.bfloat16, device: str = "cuda") -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator).to(device, dtype)) for shape in SHAPES]


def set_gradients(params: list[nn.Parameter], step: int = 0) -> None:
    generator = torch.Generator().manual_seed(step)
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator).to(param.device, param.dtype)


def assert_same(params: list[nn.Parameter], expected: list[nn.Parameter]) -> None:
    for index, (param, want) in enumerate(zip(params, expected, strict=True)):
        assert_same_bits(param, want, what=f"parameter {index} of shape {tuple(param.shape)}")


@pytest.mark.usefixtures("waiting_raises")
def test_torch_raises_when_the_host_waits() -> None:
    with pytest.raises(RuntimeError, match="synchronizing"):
        torch.ones((), device="cuda").item()


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
@pytest.mark.parametrize("compute_dtype", ["fp64", "fp32"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_the_host_does_not_wait_for_a_step(
    dtype: torch.dtype, compute_dtype: str, noise: Callable[[], dict[str, Any]], request: pytest.FixtureRequest
) -> None:
    on_gpu = params(dtype)
    optimizer = Rose(on_gpu, lr=0.01, compute_dtype=compute_dtype, **noise())
    set_gradients(on_gpu)
    optimizer.step()
    request.getfixturevalue("waiting_raises")
    optimizer.step()


def test_parameters_on_two_devices_have_the_bits_of_the_cpu() -> None:
    expected = params(device="cpu")
    mixed = [nn.Parameter(p.detach().to("cuda" if index % 2 else "cpu")) for index, p in enumerate(params())]
    optimizers = [Rose(held, lr=0.01, sr_seed=1) for held in (mixed, expected)]
    for step in range(2):
        for held, optimizer in zip((mixed, expected), optimizers, strict=True):
            set_gradients(held, step)
            optimizer.step()
    assert_same(mixed, expected)


def test_a_run_with_a_generator_continues_from_its_state() -> None:
    held, resumed_params = params(), params()
    optimizer = Rose(held, lr=0.01, sr_seed=None, bf16_sr=torch.Generator("cuda").manual_seed(5))
    set_gradients(held)
    optimizer.step()
    for param, resumed_param in zip(held, resumed_params, strict=True):
        resumed_param.data = param.detach().clone()
    resumed = Rose(resumed_params, lr=0.01, sr_seed=None, bf16_sr=torch.Generator("cuda"))
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for stepped, stepping in ((held, optimizer), (resumed_params, resumed)):
        set_gradients(stepped, 1)
        stepping.step()
    assert_same(held, resumed_params)


def test_a_generator_on_another_device_raises() -> None:
    on_gpu = params()
    set_gradients(on_gpu)
    optimizer = Rose(on_gpu, lr=0.01, sr_seed=None, bf16_sr=torch.Generator())
    text = "bf16_sr is a generator on device cpu, parameter 0 of group 0 is on cuda:0"
    with refuses(optimizer, ValueError, text):
        optimizer.step()


def test_a_step_on_another_stream_has_the_same_bits() -> None:
    held, expected = params(), params()
    set_gradients(held)
    set_gradients(expected)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        Rose(held, lr=0.01, sr_seed=1).step()
    Rose(expected, lr=0.01, sr_seed=1).step()
    torch.cuda.synchronize()
    assert_same(held, expected)


def test_a_capture_in_a_cuda_graph_raises() -> None:
    held = params()
    set_gradients(held)
    optimizer = Rose(held, lr=0.01)
    refused = pytest.raises(RuntimeError, match=r"Rose\.step\(\) cannot be captured in a CUDA graph")
    with refused, torch.cuda.graph(torch.cuda.CUDAGraph()):
        optimizer.step()


@pytest.mark.filterwarnings(r"ignore:`torch\.jit\.script_method` is deprecated:DeprecationWarning")
def test_a_compiled_step_has_the_same_bits() -> None:
    held, expected = params(), params()
    optimizer, reference = Rose(held, lr=0.01, sr_seed=1), Rose(expected, lr=0.01, sr_seed=1)
    compiled = torch.compile(optimizer.step)
    for step in range(2):
        for stepped, take_step in ((held, compiled), (expected, reference.step)):
            set_gradients(stepped, step)
            take_step()
    assert_same(held, expected)


def trained(make: Callable[[nn.Module], Any], steps: int = 4) -> list[Tensor]:
    """Return the parameters of a model after a few steps of an optimizer."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 4)).to("cuda", torch.bfloat16)
    optimizer = make(model)
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(64, 32, generator=generator).to("cuda", torch.bfloat16)
        model(x).float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return list(model.parameters())


def test_an_attached_optimizer_has_the_bits_of_rose() -> None:
    attached = trained(lambda model: rose_torch.attach(model, lr=0.01, sr_seed=1))
    for got, want in zip(attached, trained(lambda model: Rose(model.parameters(), lr=0.01, sr_seed=1)), strict=True):
        assert_same_bits(got, want)


def test_a_diagnosis_equals_that_of_the_cpu() -> None:
    found = []
    for device in ("cuda", "cpu"):
        held = params(device=device)
        set_gradients(held)
        found.append(rose_torch.diagnose(Rose(held, lr=0.01, sr_seed=1)))
    assert found[0] == found[1]
