"""rose_cupy has the bits of rose_numpy, and queues its steps on the current stream. Without a GPU, a fake runs it."""

import importlib
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
import pytest

import rose_numpy
from rose_core.namespace import arrays
from rose_numpy import Rose as NumpyRose
from tests import fake_cupy
from tests.adapters.models import SHAPES, assert_same_model, core_step, grads, model
from tests.adapters.refusals import raises, refuses
from tests.backends import BACKENDS
from tests.bits import DTYPES, assert_same_bits
from tests.peers.cases import RULES
from tests.peers.trajectories import with_options
from tests.strategies import COMPUTE_DTYPES, LAYOUTS, TINY_KINDS, fill

BACKEND: Final = next(backend for backend in BACKENDS if backend.name == "cupy")
NEEDS_CUPY: Final = "ImportError: rose_cupy needs CuPy: pip install cupy-cuda12x for CUDA 12, cupy-cuda13x for CUDA 13"
STEPS: Final = 20


class Library(NamedTuple):
    """CuPy or its fake: the adapter, the module, and the function that copies a NumPy array to it."""

    rose: Any
    cupy: Any
    array: Callable[[np.ndarray], Any]

    def arrays(self, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
        """Return a model on the device."""
        return {name: self.array(x) for name, x in arrays.items()}


@pytest.fixture
def on_gpu() -> Library:
    """Return CuPy, or skip the test without a device."""
    if reason := BACKEND.missing():
        pytest.skip(reason)
    return Library(importlib.import_module("rose_cupy").Rose, importlib.import_module("cupy"), BACKEND.array)


@pytest.fixture
def on_fake(monkeypatch: pytest.MonkeyPatch) -> Library:
    """Return the fake, which rose_cupy imports as CuPy during a test."""
    for name in (
        "rose_cupy",
        "rose_cupy.arrays",
        "rose_cupy.optimizer",
        "rose_cupy.rules",
    ):  # imported again, and removed after the test
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy.cupy)
    monkeypatch.setitem(arrays._NAMESPACES, fake_cupy.ndarray, fake_cupy.cupy)
    return Library(importlib.import_module("rose_cupy").Rose, fake_cupy.cupy, fake_cupy.array)


@pytest.fixture(params=[pytest.param("on_gpu", marks=pytest.mark.gpu), "on_fake"])
def library(request: pytest.FixtureRequest) -> Any:
    """Return CuPy, and its fake."""
    return request.getfixturevalue(request.param)


def test_the_import_without_cupy_names_the_extras() -> None:
    blocked = "import sys; sys.modules['cupy'] = None; import rose_cupy"
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == NEEDS_CUPY


def test_numpy_arrays_raise(library: Library) -> None:
    with raises(TypeError, "params['w'] must be a cupy.ndarray, got ndarray"):
        library.rose({"w": np.ones((2, 2), np.float32)}, lr=0.1)


@pytest.mark.parametrize("compute_dtype", COMPUTE_DTYPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_run_has_the_bits_of_numpy(library: Library, dtype: str, compute_dtype: str | None) -> None:
    options: dict[str, Any] = {"lr": 0.125, "weight_decay": 0.01, "compute_dtype": compute_dtype, "sr_seed": 5}
    options["bf16_sr"] = compute_dtype not in ("fp16", "bf16")
    params, expected = library.arrays(model(dtype)), model(dtype)
    optimizer, reference = library.rose(params, **options), NumpyRose(expected, **options)
    for step in range(STEPS):
        optimizer.step(library.arrays(grads(step, dtype)))
        reference.step(grads(step, dtype))
        assert_same_model(params, expected, "rose_cupy")
    assert optimizer.state_dict() == reference.state_dict()


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(("dtype", "state_dtype"), [("float32", None), ("bfloat16", "bfloat16")])
def test_a_rule_has_the_bits_of_numpy(library: Library, name: str, dtype: str, state_dtype: str | None) -> None:
    rule = with_options(RULES[name], state_dtype=state_dtype)
    params, expected = library.arrays(model(dtype)), model(dtype)
    optimizer = importlib.import_module("rose_cupy").Optimizer(params, rule, lr=0.125)
    reference = rose_numpy.Optimizer(expected, rule, lr=0.125)
    for step in range(3):
        optimizer.step(library.arrays(grads(step, dtype)))
        reference.step(grads(step, dtype))
    for key, x in expected.items():
        assert_same_bits(params[key], x, backend="rose_cupy.Optimizer")
    states = optimizer.state_dict()["state"], reference.state_dict()["state"]
    for index, state in states[1].items():
        for key, leaf in state.items():
            if key == "step":
                assert states[0][index][key] == leaf
            else:
                assert_same_bits(states[0][index][key], leaf, backend="rose_cupy.Optimizer")


@pytest.mark.parametrize("kind", sorted(TINY_KINDS))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_subnormals_are_not_flushed_at_compute_dtype_float64(library: Library, dtype: str, kind: str) -> None:
    rng = np.random.default_rng(0)
    start, gradients = ({name: fill(kind, rng, shape, dtype) for name, shape in SHAPES.items()} for _ in range(2))
    params = library.arrays(start)
    optimizer, reference = library.rose(params, lr=2.0**-130), NumpyRose(start, lr=2.0**-130)
    for _ in range(STEPS):
        optimizer.step(library.arrays(gradients))
        reference.step(gradients)
    assert_same_model(params, start, "rose_cupy")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_views_are_updated_in_place(library: Library, layout: str) -> None:
    views = Library(library.rose, library.cupy, lambda x: LAYOUTS[layout](library.array, x))
    params = views.arrays(model("bfloat16"))
    held = dict(params)
    library.rose(params, lr=0.1).step(views.arrays(grads(dtype="bfloat16")))
    assert_same_model(held, core_step(model("bfloat16"), grads(dtype="bfloat16"), lr=0.1), "rose_cupy")


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_diagnosis_equals_that_of_numpy(library: Library, dtype: str) -> None:
    optimizer, reference = library.rose(library.arrays(model(dtype)), lr=0.25), NumpyRose(model(dtype), lr=0.25)
    found = importlib.import_module("rose_cupy").diagnose(
        optimizer, library.arrays(grads(dtype=dtype)) | {"bias": None}
    )
    assert found == rose_numpy.diagnose(reference, grads(dtype=dtype) | {"bias": None})


SPIN: Final = r"""
extern "C" __global__ void spin(long long cycles) {
    long long start = clock64();
    while (clock64() - start < cycles) {}
}
"""


@pytest.mark.gpu
def test_a_step_is_queued_on_the_current_stream_and_the_host_does_not_wait(on_gpu: Library) -> None:
    cupy = on_gpu.cupy
    stream, other = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Stream(non_blocking=True)
    spin = cupy.RawKernel(SPIN, "spin")
    with stream:
        params, gradients = on_gpu.arrays(model("bfloat16")), on_gpu.arrays(grads(dtype="bfloat16"))
        optimizer = on_gpu.rose(params, lr=0.1)
        # The first step compiles kernels, and fills the memory pools.
        optimizer.step(gradients)
        spin((1,), (1,), (1,))
        stream.synchronize()
        before = params["weight"].get()
        spin((1,), (1,), (4_000_000_000,))  # about 2 s
        optimizer.step(gradients)
        meanwhile = params["weight"].get(stream=other)
        assert not stream.done
        stream.synchronize()
    assert_same_bits(meanwhile, before, backend="rose_cupy")
    expected = model("bfloat16")
    for step in range(2):
        expected = core_step(expected, grads(dtype="bfloat16"), step=step, lr=0.1)
    assert_same_model(params, expected, "rose_cupy")


def test_there_is_no_warning_about_very_large_steps(library: Library) -> None:
    """The host would wait for the device."""
    params, gradient = {"scale": np.ones(3, np.float32)}, {"scale": np.asarray([1.0, 1.0, 1.0000001], np.float32)}
    with pytest.warns(UserWarning, match="moves elements of"):
        NumpyRose({"scale": np.ones(3, np.float32)}, lr=0.1).step(gradient)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        library.rose(library.arrays(params), lr=0.1).step(library.arrays(gradient))


def test_a_numpy_gradient_stops_the_whole_step(library: Library) -> None:
    optimizer = library.rose(library.arrays(model()), lr=0.1)
    text = "grads['kernel'] is an array of numpy, params['kernel'] of cupy; they must be of one library"
    with refuses(optimizer, TypeError, text):
        optimizer.step(library.arrays(grads()) | {"kernel": grads()["kernel"]})


def test_an_array_on_another_device_than_the_current_one_raises(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, gradients = library.arrays(model()), library.arrays(grads())
    optimizer = library.rose(params, lr=0.1)
    monkeypatch.setattr(library.cupy.cuda, "Device", lambda: "<CUDA Device 9>")
    text = "params['scale'] is on <CUDA Device 0>, the current device is <CUDA Device 9>; they must be the same"
    with raises(ValueError, text):
        library.rose(params, lr=0.1)
    with refuses(optimizer, ValueError, text):
        optimizer.step(gradients)
