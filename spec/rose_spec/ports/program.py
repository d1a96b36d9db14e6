"""A port that is a program: it reads one request from each line of its input, and writes one reply to each line."""

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

MAX_LINE: Final = 2**26  # bytes
STDERR_TAIL: Final = 2000  # bytes
# A program that ends or hangs is restarted for the next request; after this many requests in a row the run ends.
MAX_UNANSWERED: Final = 3


class ProgramPort:
    """A program that replies line by line, and never sees an expected value.

    Parameters
    ----------
    command : str
        The command and its arguments, quoted as for a POSIX shell. It is started without a shell.
    dialect : {"json", "text"}
        The format of the lines.
    timeout : float
        The time limit in seconds for each reply, and for the exit of the program.

    Notes
    -----
    If the program ends or hangs during a request, this request is unanswered and the next one goes to a new process.
    The run ends after three unanswered requests in a row, and at the first line that breaks the protocol.
    """

    def __init__(self, command: str, *, dialect: Dialect = "json", timeout: float = 10.0) -> None:
        self.name = command
        try:
            self._arguments = shlex.split(command)
        except ValueError as error:
            raise HarnessError(f"the command {command!r} cannot be split into arguments: {error}") from error
        if not self._arguments:
            raise HarnessError("the command of a program must not be empty")
        self._dialect = dialect
        self._timeout = timeout
        self._process: asyncio.subprocess.Process | None = None
        self._loop = asyncio.new_event_loop()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the port)
        self._answered: set[str] = set()
        self._unanswered = 0

    def step(self, request: StepRequest) -> Reply:
        """Ask for a step."""
        wide = compute_format(request).name == "float64"
        return self._ask(request, "float64" if wide else "float32")

    def noise(self, request: NoiseRequest) -> Reply:
        """Ask for words of noise."""
        return self._ask(request, "float32")

    def close(self) -> None:
        """Close the input and wait for the program to exit; any further output breaks the protocol."""
        try:
            if self._process is not None:
                self._run(self._finish(self._process))
        except TimeoutError:
            text = f"the port did not exit within {self._timeout:g} s of the end of its input"
            raise ProtocolError(text + self._stderr_tail()) from None
        finally:
            self._kill()
            self._stderr.close()
            self._loop.close()

    def _ask(self, request: Request, operation: str) -> Reply:
        """Send a request and return the checked reply; if there is none, the process is killed."""
        try:
            line = self._run(self._exchange(write_request(request, self._dialect)))
        except TimeoutError:
            return self._no_reply(f"no reply within {self._timeout:g} s (is every line flushed?)")
        except (OSError, EOFError):
            return self._no_reply(f"the program ended without a reply, {self._run(self._exit_status())}")
        self._unanswered = 0
        try:
            text = self._checked(line, request.id)
            return read_reply(text, request, operation, self._dialect)
        except ProtocolError as error:
            self._kill()
            raise ProtocolError(f"{request.id}: {error}{self._stderr_tail()}") from None

    def _checked(self, line: bytes, expected: str) -> str:
        """Return the text of a line, which must have the id of the request."""
        text = decoded(line)
        identity = reply_id(text, self._dialect)
        if identity in self._answered:
            raise ProtocolError(f"the port answered {identity!r} twice")
        if identity != expected:
            raise ProtocolError(f"the port answered an unknown id, {shortened(identity)}: {shortened(text)}")
        self._answered.add(identity)
        return text

    async def _exchange(self, request: str) -> bytes:
        """Write a line and read one; start the program if it is not running."""
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
                limit=MAX_LINE,
                start_new_session=True,  # a process group, so that the children of the program can be killed with it
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
            is_repeated = identity in self._answered
            text = f"answered {identity!r} twice" if is_repeated else f"wrote another line: {shortened(first)}"
            raise ProtocolError(f"after the last reply the port {text}")
        await process.wait()

    def _run(self, coroutine: Any) -> Any:
        """Run a coroutine within the time limit."""
        try:
            return self._loop.run_until_complete(asyncio.wait_for(coroutine, self._timeout))
        except asyncio.TimeoutError:  # a different class from the builtin one before Python 3.11
            raise TimeoutError from None
        except ValueError as error:  # raised by readline
            raise ProtocolError(f"a reply must be a line of at most {MAX_LINE} bytes") from error

    def _no_reply(self, reason: str) -> Failed:
        """Kill the process, and return the failure; raise after too many unanswered requests in a row."""
        reason += self._stderr_tail()
        self._kill()
        self._unanswered += 1
        if self._unanswered >= MAX_UNANSWERED:
            raise ProtocolError(f"{MAX_UNANSWERED} requests in a row had no reply; the last: {reason}")
        return Failed(reason)

    def _kill(self) -> None:
        if self._process is None:
            return
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # it has already ended
                os.killpg(self._process.pid, signal.SIGKILL) if os.name == "posix" else self._process.kill()
        with contextlib.suppress(TimeoutError, ProtocolError):
            # Reading to the end closes the pipes, which the event loop needs before it can be closed.
            self._run(self._process.communicate())
        self._process = None

    def _stderr_tail(self) -> str:
        """Return the last lines of the program's standard error."""
        self._stderr.seek(0)
        tail = self._stderr.read()[-STDERR_TAIL:].decode(errors="replace").strip()
        return f"\nits standard error ends with:\n{tail}" if tail else ""


def decoded(line: bytes) -> str:
    """Return a line as text, which must be UTF-8."""
    try:
        return line.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ProtocolError(f"a reply must be UTF-8, got {shortened(str(line)[2:-1])}") from None
