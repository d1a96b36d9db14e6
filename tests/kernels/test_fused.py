"""The option `fused`: when kernels update, errors, copies of optimizers, forked processes, threads and the cache."""

import copy
import importlib
import multiprocessing
import os
import pickle
import pkgutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rose_core
import rose_kernels
import rose_numpy
import rose_torch
from rose_kernels import Kernels, Threads, availability, get_num_threads, set_num_threads
from rose_torch.openmp import threads_of_torch
from tests.adapters.models import normal, parameter
from tests.adapters.refusals import raises
from tests.bits import assert_same_bits

A, B = normal(0, (30, 40)), normal(1, (30, 40))
AFTER = rose_core.update(A, B, lr=0.1)
NO_NUMBA = (
    "fused=True needs the compiled kernels, and Numba is not installed (pip install numba); fused=None does without"
)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the number of parameters of each launch."""
    counted: list[int] = []
    run = Kernels.run

    def counting(self: Kernels, launch: Any, threads: Threads) -> None:
        counted.append(len(launch.kernels))
        run(self, launch, threads)

    monkeypatch.setattr(Kernels, "run", counting)
    return counted


def step_of_numpy(fused: bool | None) -> np.ndarray:
    array = A.copy()
    rose_numpy.Rose([array], lr=0.1, fused=fused).step([B])
    return array


def step_of_torch(fused: bool | None) -> torch.Tensor:
    param = parameter(A, B)
    rose_torch.Rose([param], lr=0.1, fused=fused).step()
    return param


steps = pytest.mark.parametrize("step", [step_of_numpy, step_of_torch])


@steps
@pytest.mark.parametrize(("fused", "by_kernels"), [(None, [1]), (True, [1]), (False, [])])
def test_kernels_update_unless_fused_is_false(
    step: Callable, fused: bool | None, by_kernels: list[int], calls: list[int]
) -> None:
    assert_same_bits(step(fused), AFTER, backend="kernels")
    assert calls == by_kernels


@pytest.fixture
def without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = availability.importlib.util.find_spec
    monkeypatch.setattr(
        availability.importlib.util, "find_spec", lambda name: None if name == "numba" else find_spec(name)
    )
    monkeypatch.setattr(availability, "_has_numba", availability._has_numba.__wrapped__)


@steps
@pytest.mark.usefixtures("without_numba")
def test_without_numba_the_core_updates_and_fused_is_refused(step: Callable, calls: list[int]) -> None:
    assert_same_bits(step(None), AFTER, backend="kernels")
    assert calls == []
    with raises(RuntimeError, NO_NUMBA):
        step(True)


@steps
def test_fused_is_true_false_or_none(step: Callable) -> None:
    with raises(TypeError, "fused must be True, False or None, got 1"):
        step(1)


def test_importing_the_optimizers_loads_no_numba() -> None:
    code = "import sys, rose_numpy, rose_torch; print('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("fused", [True, False])
def test_a_copy_is_fused_as_the_original(copied: Callable, fused: bool, calls: list[int]) -> None:
    optimizer = rose_torch.Rose([parameter(A, B)], lr=0.1, fused=fused)
    optimizer.step()
    twin = copied(optimizer)
    (param,) = twin.param_groups[0]["params"]
    param.data.copy_(torch.from_numpy(A))
    param.grad = torch.from_numpy(B.copy())
    del calls[:]
    twin.step()
    assert_same_bits(param, AFTER, backend="kernels")
    assert calls == ([1] if fused else [])


def test_a_gradient_of_another_layout_gets_another_kernel() -> None:
    param = parameter(A, B)
    optimizer = rose_torch.Rose([param], lr=0.1)
    expected = A
    grads = [B, B.T.copy().T, np.ascontiguousarray(np.repeat(B, 2, axis=1))[:, ::2], B]
    for grad in grads:
        param.grad = torch.from_numpy(grad)
        expected = rose_core.update(expected, B, lr=0.1)
        optimizer.step()
        assert_same_bits(param, expected, backend="kernels")
    param.data = param.data[:7]
    param.grad = torch.from_numpy(B[:7].copy())
    expected = rose_core.update(expected[:7], B[:7], lr=0.1)
    optimizer.step()
    assert_same_bits(param, expected, backend="kernels")


@pytest.mark.parametrize("fused", [False, True])
def test_autograd_notices_a_step(fused: bool) -> None:
    param = parameter(A, B)
    loss = (param * param).sum()
    rose_torch.Rose([param], lr=0.1, fused=fused).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def _stepped_in_a_child(queue: Any) -> None:
    queue.put(step_of_torch(True).detach().numpy())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_starts_new_threads() -> None:
    large = normal(2, (300, 1000))
    set_num_threads(4)
    try:
        rose_numpy.Rose([large], lr=0.1).step([large.copy()])
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        child = context.Process(target=_stepped_in_a_child, args=(queue,))
        child.start()
        assert_same_bits(queue.get(), AFTER, backend="kernels")
        child.join(60)
        assert child.exitcode == 0
    finally:
        set_num_threads(None)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Set torch to two threads, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def _large_step_in_a_child(queue: Any, param: torch.nn.Parameter) -> None:
    rose_torch.Rose([param], lr=0.1, fused=True).step()
    queue.put(param.detach().numpy())


@pytest.mark.usefixtures("two_threads")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_does_not_wait_for_torchs_threads() -> None:
    before = normal(2, (300, 1000))
    param, same = parameter(before, before), parameter(before, before)
    rose_torch.Rose([same], lr=0.1, fused=True).step()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_large_step_in_a_child, args=(queue, param), daemon=True)
    child.start()
    assert_same_bits(queue.get(timeout=60), same, backend="kernels")
    child.join(60)
    assert child.exitcode == 0


def _steps_in_a_child(queue: Any, param: torch.nn.Parameter) -> None:
    for fused in (False, True):
        rose_torch.Rose([param], lr=0.1, fused=fused).step()
    queue.put("done")


@pytest.mark.usefixtures("two_threads")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_draws_noise_without_torchs_threads() -> None:
    param = torch.nn.Parameter(torch.ones(2**20, dtype=torch.bfloat16))
    param.grad = torch.ones_like(param)  # starts the threads of torch
    rose_torch.Rose([param], lr=0.1, fused=True).step()  # loads or compiles the kernels
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_steps_in_a_child, args=(queue, param), daemon=True)
    child.start()
    assert queue.get(timeout=60) == "done"
    child.join(60)
    assert child.exitcode == 0


@pytest.mark.usefixtures("two_threads")
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere torch has another OpenMP, or none")
def test_steps_run_in_the_threads_of_torch() -> None:
    threads = threads_of_torch()
    both_are_here, members = threading.Barrier(2, timeout=60), []

    def work() -> None:
        both_are_here.wait()
        members.append(threading.current_thread())

    threads.run(work, threads.count)
    assert len(set(members)) == 2
    assert threading.current_thread() in members
    assert not any(member.name.startswith("rose") for member in members), "a helper of the pool"


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("count", [1, 2])
def test_errors_in_the_threads_of_torch_are_raised(count: int) -> None:
    with raises(ZeroDivisionError, "integer division or modulo by zero"):
        threads_of_torch().run(lambda: 1 // 0, count)


def test_the_number_of_threads_is_that_of_numba_until_it_is_set() -> None:
    import numba

    assert get_num_threads() == numba.config.NUMBA_NUM_THREADS
    set_num_threads(3)
    assert get_num_threads() == 3
    set_num_threads(None)
    assert get_num_threads() == numba.config.NUMBA_NUM_THREADS
    with raises(ValueError, "count must be None or an integer >= 1, got 0"):
        set_num_threads(0)


CACHED_STEP = (
    "import numpy, rose_numpy; x = numpy.ones((2, 2)); "
    "rose_numpy.Rose([x], lr=0.5, fused=True).step([x.copy()]); print(x)"
)


@pytest.mark.parametrize("folder", ["/dev/null/none", pytest.param("there", marks=pytest.mark.slow)])
def test_a_folder_that_cannot_hold_the_cache_is_no_error(folder: str, tmp_path: Path) -> None:
    path = tmp_path / folder if folder == "there" else Path(folder)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(path)}
    done = subprocess.run(
        [sys.executable, "-c", CACHED_STEP], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert any(tmp_path.rglob("*.nbc")) == (folder == "there")


def test_no_two_compiled_functions_have_one_name() -> None:
    """Another process links cached functions by name, and would take either of two with one name."""
    modules = [
        importlib.import_module(module.name) for module in pkgutil.walk_packages(rose_kernels.__path__, "rose_kernels.")
    ]
    found = {id(f): f for module in modules for f in vars(module).values() if hasattr(f, "py_func")}
    names = Counter(f"{f.py_func.__module__}.{f.py_func.__qualname__}" for f in found.values())
    assert names.total() > 40
    assert [name for name, count in names.items() if count > 1] == []
