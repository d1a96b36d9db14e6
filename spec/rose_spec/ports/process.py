"""A child process that exchanges lines, with limits on time and memory; a kill ends all processes that it started."""

import contextlib
import os
import queue
import signal
import subprocess
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread
from typing import IO, Final

__all__ = ["ChildProcess", "LineTooLong"]

CHUNK: Final = 2**16  # bytes of one read
# The most chunks that are read ahead. If the queue is full, the pipe fills, and the program must wait.
MAX_CHUNKS: Final = 16
STDERR_TAIL: Final = 2000  # bytes
# The seconds that a process may take to exit after it closed a pipe, and that its output may come after its exit.
GRACE: Final = 1.0
POLL: Final = 0.05  # seconds
# An environment variable that all descendants inherit. It finds those that left the process group.
MARK: Final = "ROSE_SPEC_PROCESS"


class LineTooLong(Exception):  # noqa: N818  (a condition that the port reports)
    """A line is longer than allowed."""


class ChildProcess:
    """A program whose lines are written and read by threads, so that it can block none of the callers.

    Parameters
    ----------
    arguments : sequence of str
        The program and its arguments. It is started without a shell, in its own process group.

    Raises
    ------
    OSError
        If the program cannot be started.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self._mark = uuid.uuid4().hex
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            arguments,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            bufsize=0,
            start_new_session=True,
            env={**os.environ, MARK: self._mark},
        )
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._chunks: queue.Queue[bytes] = queue.Queue(MAX_CHUNKS)  # b"" is the end of the output
        self._rest, self._tail = bytearray(), bytearray()
        self._input_closed, self._stopped = Event(), Event()
        self._output_ended = False
        targets = (
            (self._write, self._process.stdin),
            (self._read, self._process.stdout),
            (self._read_errors, self._process.stderr),
        )
        self._threads = [Thread(target=target, args=(stream,), daemon=True) for target, stream in targets]
        for thread in self._threads:
            thread.start()

    def write(self, line: str) -> None:
        """Write a line. This returns at once, whether the program reads or not."""
        self._lines.put(f"{line}\n".encode())

    def readline(self, limit: int, deadline: float) -> bytes:
        """Return the next line without its end.

        Parameters
        ----------
        limit : int
            The largest number of bytes.
        deadline : float
            The latest time of `time.monotonic`.

        Raises
        ------
        TimeoutError
            At the deadline.
        EOFError
            If no line can come any more; the text gives the reason.
        LineTooLong
            If the line is longer than the limit.
        """
        searched = 0
        while (end := self._rest.find(b"\n", searched)) < 0:
            searched = len(self._rest)
            if searched > limit:
                raise LineTooLong
            self._rest += self._next_chunk(deadline)
        if end > limit:
            raise LineTooLong
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        return line

    def finish(self, limit: int, deadline: float) -> bytes:
        """Close the input, and return the rest of the output, at most about `limit` bytes.

        Raises
        ------
        TimeoutError
            If the program has not exited at the deadline.
        """
        self._lines.put(None)
        with contextlib.suppress(EOFError):
            while len(self._rest) <= limit:
                self._rest += self._next_chunk(deadline)
        if not self._rest.strip():
            try:
                self._process.wait(max(deadline - time.monotonic(), 0.0))
            except subprocess.TimeoutExpired:
                raise TimeoutError from None
        return bytes(self._rest)

    def error_tail(self) -> bytes:
        """Return the last bytes of the standard error so far; after a kill, of all of it."""
        return bytes(self._tail)

    def kill(self) -> None:
        """Kill the program and all processes that it started."""
        self._stopped.set()
        self._lines.put(None)
        for _ in range(5):  # a process may start another one between two rounds
            if os.name == "posix":
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            with contextlib.suppress(OSError):
                self._process.kill()
            if not self._kill_marked():
                break
            time.sleep(POLL / 5)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)
        for thread in self._threads:
            thread.join(GRACE)

    def _kill_marked(self) -> bool:
        """Kill the processes with the mark in their environment, on systems with /proc. Tell whether there were any."""
        found, wanted = False, f"{MARK}={self._mark}".encode()
        for entry in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if wanted in entry.read_bytes():
                    found = found or int(entry.parent.name) != self._process.pid
                    os.kill(int(entry.parent.name), signal.SIGKILL)
        return found

    def _next_chunk(self, deadline: float) -> bytes:
        """Return the next part of the output."""
        silent_since = None
        while True:
            if self._output_ended:
                raise EOFError(self._end(deadline))
            try:
                chunk = self._chunks.get(timeout=min(POLL, max(deadline - time.monotonic(), 0.001)))
            except queue.Empty:
                now = time.monotonic()
                if self._process.poll() is not None or self._input_closed.is_set():
                    silent_since = silent_since or now
                    if now >= min(silent_since + GRACE, deadline):
                        raise EOFError(self._end(deadline)) from None
                if now >= deadline:
                    raise TimeoutError from None
                continue
            if chunk:
                return chunk
            self._output_ended = True

    def _end(self, deadline: float) -> str:
        """Return the reason why no line can come any more."""
        try:
            status = self._process.wait(min(GRACE, max(deadline - time.monotonic(), POLL)))
        except subprocess.TimeoutExpired:
            pipe = "output" if self._output_ended else "input"
            return f"the program closed its {pipe} and kept running"
        end = f"killed by signal {-status}" if status < 0 else f"with exit status {status}"
        text = f"the program ended without a reply, {end}"
        return text if self._output_ended else f"{text}; a process that it started holds its output open"

    def _write(self, stream: IO[bytes]) -> None:
        """Write the lines of the queue, until the program or the caller closes the input."""
        with stream:
            try:
                while (line := self._lines.get()) is not None:
                    view = memoryview(line)
                    while view:
                        view = view[stream.write(view) :]
            except OSError:  # the program closed its end
                self._input_closed.set()

    def _read(self, stream: IO[bytes]) -> None:
        """Put the output into the queue."""
        with stream, contextlib.suppress(OSError):
            while (chunk := stream.read(CHUNK)) and self._put(chunk):
                pass
        self._put(b"")

    def _put(self, chunk: bytes) -> bool:
        """Put a chunk into the queue as soon as it has a free place. Return false if the process is killed."""
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._chunks.put(chunk, timeout=POLL)
                return True
        return False

    def _read_errors(self, stream: IO[bytes]) -> None:
        """Keep the end of the standard error."""
        with stream, contextlib.suppress(OSError):
            while chunk := stream.read(CHUNK):
                self._tail = (self._tail + chunk)[-STDERR_TAIL:]
