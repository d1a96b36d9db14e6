"""A signal during a step is handled after the step, and an exception of its handler is raised."""

import contextlib
import ctypes
import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import rose_numpy
import rose_torch
from rose_plan import uninterrupted
from tests.adapters.models import normal, parameter
from tests.bits import assert_same_bits, host

STEPS = 40
SHAPES = [(120, 90), (300,), (), (8, 3, 3, 3)]
GRADS = [normal(10 + number, shape) for number, shape in enumerate(SHAPES)]

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timer signals")


class AlarmError(Exception):
    """Raised by the handler of the timer, like KeyboardInterrupt by the handler of Ctrl-C."""


class Run:
    """A step function with the step count and the parameters of its optimizer."""

    def __init__(self, step: Callable[[], Any], optimizer: Any, params: Callable[[], list[np.ndarray]]) -> None:
        self.step, self._optimizer, self.params = step, optimizer, params

    @property
    def count(self) -> int:
        return int(self._optimizer.param_groups[0]["step"])


def numpy_run(fused: bool | None) -> Run:
    arrays = [normal(number, shape) for number, shape in enumerate(SHAPES)]
    optimizer = rose_numpy.Rose(arrays, lr=0.01, fused=fused)
    return Run(lambda: optimizer.step(GRADS), optimizer, lambda: [x.copy() for x in arrays])


def torch_run(fused: bool | None) -> Run:
    tensors = [parameter(normal(number, shape), GRADS[number]) for number, shape in enumerate(SHAPES)]
    optimizer = rose_torch.Rose(tensors, lr=0.01, fused=fused)
    return Run(optimizer.step, optimizer, lambda: [host(x).copy() for x in tensors])


@pytest.fixture
def _timer() -> Iterator[None]:
    before = signal.getsignal(signal.SIGALRM)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    torch.set_grad_enabled(True)  # an alarm may arrive where torch.no_grad ends, and leave gradients disabled


@pytest.mark.usefixtures("_timer")
@pytest.mark.parametrize("fused", [None, False], ids=["kernels", "core"])
@pytest.mark.parametrize("start", [numpy_run, torch_run], ids=["rose_numpy", "rose_torch"])
def test_every_alarm_is_raised_after_a_whole_step(start: Callable[[bool | None], Run], fused: bool | None) -> None:
    plain, trajectory = start(fused), []
    for _ in range(STEPS):
        trajectory.append(plain.params())
        plain.step()
    run, handled, raised = start(fused), 0, 0
    run.step()

    def handler(number: int, frame: object) -> None:  # noqa: ARG001
        nonlocal handled
        handled += 1
        raise AlarmError

    signal.signal(signal.SIGALRM, handler)
    rng = np.random.default_rng(0)
    while run.count < STEPS - 2:
        try:
            signal.setitimer(signal.ITIMER_REAL, float(rng.uniform(1e-5, 3e-3)))
            run.step()
            run.step()
            signal.setitimer(signal.ITIMER_REAL, 0)
        except AlarmError:
            raised += 1
        for param, expected in zip(run.params(), trajectory[run.count], strict=True):
            assert_same_bits(param, expected)
    assert raised == handled > 0


def test_a_handler_runs_once_for_each_signal_after_the_block() -> None:
    events: list[str] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: events.append("signal"))
    try:
        with uninterrupted():
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGUSR1)
                events.append("block")
        assert events == ["block"] * 3 + ["signal"] * 3
        os.kill(os.getpid(), signal.SIGUSR1)
        assert events[-1] == "signal"
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_ctrl_c_is_raised_after_the_block_and_its_handler_is_restored() -> None:
    done = []
    before = signal.getsignal(signal.SIGINT)

    def block() -> None:
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            done.append(True)

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == [True]
    assert signal.getsignal(signal.SIGINT) is before


def test_an_error_in_the_block_is_raised() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="block"), uninterrupted():
        raise ValueError("block")
    assert signal.getsignal(signal.SIGINT) is before


def test_a_step_undoes_siginterrupt() -> None:
    """A system call that a library of C makes is then interrupted."""
    library = ctypes.CDLL(None, use_errno=True)
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        found = []
        for block in (contextlib.nullcontext, uninterrupted):
            signal.siginterrupt(signal.SIGALRM, False)
            with block():
                pass
            source, sink = os.pipe()
            writer = threading.Timer(0.3, os.write, (sink, b"x"))
            writer.start()
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            found.append((library.read(source, ctypes.create_string_buffer(1), 1), ctypes.get_errno()))
            writer.join()
            os.close(source)
            os.close(sink)
        assert found == [(1, 0), (-1, errno.EINTR)]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_another_thread_does_not_change_the_handlers() -> None:
    found = []

    def work() -> None:
        with uninterrupted():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]
