"""A port that is a program: it reads one request from each line of its input, and writes one reply to each line."""

import contextlib
import math
import shlex
import time
from collections.abc import Callable, Sequence
from typing import Final, NoReturn, Protocol

from rose_spec.comparison import compute_format
from rose_spec.ports.port import HarnessError, ProtocolError, printable
from rose_spec.ports.process import ChildProcess, LineTooLong
from rose_spec.ports.protocol import Dialect, read_reply, reply_id, reply_limit, shortened, write_request
from rose_spec.replies import Failed, NoiseRequest, Reply, Request, StepRequest

__all__ = ["ProgramPort"]

# A program that ends or hangs is restarted for the next request; after this many requests in a row the run ends.
MAX_UNANSWERED: Final = 3
MAX_REST: Final = 2**16  # bytes that are read after the last reply


class LineProcess(Protocol):
    """A running program, as `ChildProcess` provides it."""

    def write(self, line: str) -> None: ...

    def readline(self, limit: int, deadline: float) -> bytes: ...

    def finish(self, limit: int, deadline: float) -> bytes: ...

    def error_tail(self) -> bytes: ...

    def kill(self) -> None: ...


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
    deadline : float
        The time of `time.monotonic` at which every wait ends.
    start : callable
        Returns the running program, given its arguments.

    Notes
    -----
    If the program ends or hangs during a request, this request is unanswered and the next one goes to a new process.
    The run ends after three unanswered requests in a row, and at the first line that breaks the protocol.
    """

    def __init__(
        self,
        command: str,
        *,
        dialect: Dialect = "json",
        timeout: float = 10.0,
        deadline: float = math.inf,
        start: Callable[[Sequence[str]], LineProcess] = ChildProcess,
    ) -> None:
        self.name = command
        try:
            self._arguments = shlex.split(command)
        except ValueError as error:
            raise HarnessError(f"the command {command!r} cannot be split into arguments: {error}") from error
        if not self._arguments:
            raise HarnessError("the command of a program must not be empty")
        self._dialect = dialect
        self._timeout = timeout
        self._deadline = deadline
        self._start = start
        self._process: LineProcess | None = None
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
        if self._process is None:
            return
        try:
            rest = self._process.finish(MAX_REST, self._next_deadline())
            if rest.strip():
                self._refuse_rest(rest.strip().splitlines()[0])
        except TimeoutError:
            text = f"the port did not exit within {self._timeout:g} s of the end of its input"
            raise ProtocolError(text + self._kill()) from None
        finally:
            self._kill()

    def kill(self) -> None:
        """Kill the program without waiting for it."""
        self._kill()

    def _ask(self, request: Request, operation: str) -> Reply:
        """Send a request and return the checked reply; if there is none, the process is killed."""
        text = write_request(request, self._dialect)
        limit = reply_limit(request, text)
        try:
            line = self._exchange(text, limit)
        except TimeoutError:
            if time.monotonic() >= self._deadline:
                self._fail(request.id, "no reply before the time limit of the run; --total-timeout sets another one")
            return self._no_reply(f"no reply within {self._timeout:g} s (is every line flushed?)")
        except EOFError as end:
            return self._no_reply(str(end))
        except LineTooLong:
            self._fail(request.id, f"a reply to this request must be a line of at most {limit} bytes")
        self._unanswered = 0
        try:
            return read_reply(self._checked(line, request.id), request, operation, self._dialect)
        except ProtocolError as error:
            self._fail(request.id, str(error))

    def _exchange(self, request: str, limit: int) -> bytes:
        """Write a line and read one; start the program if it is not running."""
        if self._process is None:
            try:
                self._process = self._start(self._arguments)
            except (OSError, ValueError) as error:  # a null character in the command
                raise HarnessError(f"the program {self._arguments[0]!r} cannot be started: {error}") from error
        self._process.write(request)
        return self._process.readline(limit, self._next_deadline())

    def _next_deadline(self) -> float:
        return min(time.monotonic() + self._timeout, self._deadline)

    def _checked(self, line: bytes, expected: str) -> str:
        """Return the text of a line, which must have the id of the request."""
        text = decoded(line)
        identity = reply_id(text, self._dialect, expected)
        if identity in self._answered:
            raise ProtocolError(f"the port answered {shortened(identity)} twice")
        if identity != expected:
            raise ProtocolError(f"the port answered an unknown id, {shortened(identity)}: {shortened(text)}")
        self._answered.add(identity)
        return text

    def _refuse_rest(self, line: bytes) -> None:
        """Raise the error for a line after the last reply."""
        first, identity = decoded(line[:MAX_REST]), ""
        with contextlib.suppress(ProtocolError):
            identity = reply_id(first, self._dialect)
        is_repeated = identity in self._answered
        text = f"answered {identity!r} twice" if is_repeated else f"wrote another line: {shortened(first)}"
        raise ProtocolError(f"after the last reply the port {text}")

    def _fail(self, name: str, problem: str) -> NoReturn:
        """Kill the process, and raise an error of the protocol."""
        raise ProtocolError(f"{name}: {problem}{self._kill()}") from None

    def _no_reply(self, reason: str) -> Failed:
        """Kill the process, and return the failure; raise after too many unanswered requests in a row."""
        reason += self._kill()
        self._unanswered += 1
        if self._unanswered >= MAX_UNANSWERED:
            raise ProtocolError(f"{MAX_UNANSWERED} requests in a row had no reply; the last: {reason}")
        return Failed(reason)

    def _kill(self) -> str:
        """Kill the process, and return the last lines of its standard error."""
        process, self._process = self._process, None
        if process is None:
            return ""
        process.kill()
        lines = process.error_tail().decode(errors="replace").strip().splitlines()
        return "\n".join(["\nits standard error ends with:", *map(printable, lines)]) if lines else ""


def decoded(line: bytes) -> str:
    """Return a line as text, which must be UTF-8."""
    try:
        return line.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ProtocolError(f"a reply must be UTF-8, got {shortened(str(line[:200])[2:-1])}") from None
