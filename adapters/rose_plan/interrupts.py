"""Signals that arrive during the writes of a step: their handlers run when the step is complete."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

__all__ = ["uninterrupted"]

# The public functions also convert numbers to enums: for all signals they take 190 microseconds, not 5.
_signal: Final[Any] = sys.modules.get("_signal", signal)
_get_handler, _set_handler = _signal.getsignal, _signal.signal
_SIGNALS: Final = tuple(map(int, signal.valid_signals()))

_Received = list[tuple[int, FrameType | None]]


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Run a block to its end, and then the Python signal handlers of signals that arrived meanwhile.

    A handler may raise, as that of Ctrl-C raises KeyboardInterrupt. Inside a step it would leave some parameters
    updated and others not. Python runs handlers in the main thread only, so other threads need nothing.

    Python makes a signal interrupt system calls when a handler is set, so ``signal.siginterrupt(number, False)`` has no
    effect after this block.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: _Received = []
    handlers: dict[int, Any] = {}
    try:
        _replace_handlers(handlers, received)
        yield
    finally:
        _restore_handlers(handlers)
        _run_handlers(handlers, received)


def _replace_handlers(handlers: dict[int, Any], received: _Received) -> None:
    """Record signals in `received` from now on, and keep the handlers in `handlers`."""

    def record(number: int, frame: FrameType | None) -> None:
        received.append((number, frame))

    for number, handler in [(n, handler) for n in _SIGNALS if callable(handler := _get_handler(n))]:
        handlers[number] = handler
        _set_handler(number, record)


def _restore_handlers(handlers: dict[int, Any]) -> None:
    """Restore all handlers, although one that is restored already may raise meanwhile."""
    remaining = dict(handlers)
    try:
        while remaining:
            number = next(iter(remaining))
            _set_handler(number, remaining[number])
            del remaining[number]
    finally:
        if remaining:
            _restore_handlers(remaining)


def _run_handlers(handlers: dict[int, Any], received: _Received) -> None:
    """Run the handler of each signal that arrived, in order. An exception of a handler leaves out the later ones."""
    for number, frame in received:
        handlers[number](number, frame)
