"""A port that is a program: one request a line on its standard input, one reply a line on its standard output."""

import asyncio
import contextlib
import os
import shlex
import signal
import tempfile
from typing import Any, Final

from rose_spec.comparison import compute_format
from rose_spec.ports.port import HarnessError, ProtocolError
from rose_spec.ports.protocol import Dialect, read_reply, reply_id, shortened, write_request
from rose_spec.replies import Failed, NoiseRequest, Reply, Request, StepRequest

__all__ = ["ProgramPort"]

LONGEST_LINE: Final = 2**26
TAIL: Final = 2000
# A port that crashes on one vector is started again for the next; one that never answers is given up.
SILENCES: Final = 3


class ProgramPort:
    """A program that is asked line by line and never sees an expected value.

    Parameters
    ----------
    command : str
        The command and its arguments, quoted as for a POSIX shell; no shell runs it.
    dialect : {"json", "text"}
        How lines are written.
    timeout : float
        Seconds within which each reply, and the end of the program, must come.

    Notes
    -----
    A request that the program dies or hangs on is unanswered, and the next one is asked of a new process;
    after three such in a row, and whenever a line breaks the protocol, the run ends.
    """

    def __init__(self, command: str, *, dialect: Dialect = "json", timeout: float = 10.0) -> None:
        self.name = command
        try:
            self._arguments = shlex.split(command)
        except ValueError as error:
            raise HarnessError(f"the command {command!r} cannot be split as a shell does: {error}") from error
        if not self._arguments:
            raise HarnessError("the command of a program must not be empty")
        self._dialect = dialect
        self._timeout = timeout
        self._process: asyncio.subprocess.Process | None = None
        self._loop = asyncio.new_event_loop()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the port)
        self._answered: set[str] = set()
        self._silences = 0

    def step(self, request: StepRequest) -> Reply:
        """Ask for a step."""
        wide = compute_format(request).name == "float64"
        return self._ask(request, "float64" if wide else "float32")

    def noise(self, request: NoiseRequest) -> Reply:
        """Ask for words of noise."""
        return self._ask(request, "float32")

    def close(self) -> None:
        """End the input and wait for the program to exit; what it still says is too much."""
        try:
            if self._process is not None:
                self._run(self._finish(self._process))
        except TimeoutError:
            late = f"the port did not exit within {self._timeout:g} s of the end of its input"
            raise ProtocolError(late + self._tail()) from None
        finally:
            self._kill()
            self._stderr.close()
            self._loop.close()

    def _ask(self, request: Request, operation: str) -> Reply:
        """Ask, and check the reply; a process that broke down is replaced before the next request."""
        try:
            line = self._run(self._exchange(write_request(request, self._dialect)))
        except TimeoutError:
            return self._silent(f"no reply within {self._timeout:g} s (is every line flushed?)")
        except (OSError, EOFError):
            return self._silent(f"the program ended without a reply, {self._run(self._exit_status())}")
        self._silences = 0
        try:
            text = self._checked(line, request.id)
            return read_reply(text, request, operation, self._dialect)
        except ProtocolError as error:
            self._kill()
            raise ProtocolError(f"{request.id}: {error}{self._tail()}") from None

    def _checked(self, line: bytes, expected: str) -> str:
        """Return the text of a line, which must have the id that was asked."""
        text = decoded(line)
        identity = reply_id(text, self._dialect)
        if identity in self._answered:
            raise ProtocolError(f"the port answered {identity!r} twice")
        if identity != expected:
            raise ProtocolError(f"the port answered the unknown id {shortened(identity)}: {shortened(text)}")
        self._answered.add(identity)
        return text

    async def _exchange(self, request: str) -> bytes:
        """Write a line and read one, starting the program if it does not run."""
        if self._process is None:
            self._process = await self._start()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{request}\n".encode())
        await self._process.stdin.drain()
        line = await self._process.stdout.readline()
        if not line:
            raise EOFError
        return line

    async def _start(self) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        try:
            return await asyncio.create_subprocess_exec(
                *self._arguments,
                stdin=pipe,
                stdout=pipe,
                stderr=self._stderr,
                limit=LONGEST_LINE,
                start_new_session=True,  # so that what the program started ends with it
            )
        except OSError as error:
            raise HarnessError(f"the program {self._arguments[0]!r} cannot be started: {error}") from error

    async def _exit_status(self) -> str:
        assert self._process is not None
        status = await self._process.wait()
        return f"killed by signal {-status}" if status < 0 else f"with exit status {status}"

    async def _finish(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        rest = await process.stdout.read()
        if rest.strip():
            first = decoded(rest.splitlines()[0])
            identity = reply_id(first, self._dialect)
            again = f"answered {identity!r} twice" if identity in self._answered else f"went on: {shortened(first)}"
            raise ProtocolError(f"after the last reply the port {again}")
        await process.wait()

    def _run(self, coroutine: Any) -> Any:
        """Run a coroutine within the time limit."""
        try:
            return self._loop.run_until_complete(asyncio.wait_for(coroutine, self._timeout))
        except asyncio.TimeoutError:  # not the builtin one before Python 3.11
            raise TimeoutError from None
        except ValueError as error:  # of readline
            raise ProtocolError(f"a reply must be a line of at most {LONGEST_LINE} bytes") from error

    def _silent(self, reason: str) -> Failed:
        """Give up the process; after too many in a row, the port."""
        reason += self._tail()
        self._kill()
        self._silences += 1
        if self._silences >= SILENCES:
            raise ProtocolError(f"{SILENCES} requests in a row had no reply; the last one: {reason}")
        return Failed(reason)

    def _kill(self) -> None:
        if self._process is None:
            return
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # it has just ended by itself
                os.killpg(self._process.pid, signal.SIGKILL) if os.name == "posix" else self._process.kill()
        with contextlib.suppress(TimeoutError, ProtocolError):
            # Reading to the end closes the pipes, without which the loop cannot be closed cleanly.
            self._run(self._process.communicate())
        self._process = None

    def _tail(self) -> str:
        """Return the end of what the program wrote to its standard error."""
        self._stderr.seek(0)
        tail = self._stderr.read()[-TAIL:].decode(errors="replace").strip()
        return f"\nits standard error ends with:\n{tail}" if tail else ""


def decoded(line: bytes) -> str:
    """Return a line as text."""
    try:
        return line.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ProtocolError(f"a reply must be UTF-8, got {shortened(str(line)[2:-1])}") from None
