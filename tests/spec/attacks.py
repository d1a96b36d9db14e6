"""Programs that attack the kit: each breaks an assumption about time, memory, pipes, processes or texts."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ATTACKS", "Run", "attack", "processes_of"]

HEAD = "import json, os, signal, subprocess, sys, threading, time\n"
LOOP = HEAD + "for number, line in enumerate(sys.stdin):\n    request = json.loads(line)\n"
SEND = "    print(json.dumps({'id': request['id'], %s}), flush=True)\n"
UNSUPPORTED = LOOP + SEND % "'unsupported': 'nothing'"

# The scripts by name.
ATTACKS = {
    "closes its input and lives": HEAD + "os.close(0)\ntime.sleep(600)",
    "closes its output and lives": HEAD + "sys.stdin.readline(); os.close(1)\ntime.sleep(600)",
    "nested JSON": LOOP + "    print('[' * 200000 + ']' * 200000, flush=True)",
    "nested value": LOOP
    + "    print('{\"id\": \"' + request['id'] + '\", \"param\": ' + '[' * 900 + ']' * 900 + '}', flush=True)",
    "huge numbers": LOOP + SEND % "'param': {'dtype': 'float32', 'shape': [10**4000] * 200, 'words': []}",
    "lone surrogates": LOOP + SEND % "'refused': '\\udcff\\ud800'",
    "endless line": HEAD + "while True: sys.stdout.write('x' * 65536)",
    "endless blanks in a reply": LOOP
    + "    sys.stdout.write('{\"id\": \"' + request['id'] + '\"')\n    while True: sys.stdout.write(' ' * 65536)",
    "many small lists": LOOP + "    print('[' + '[],' * 10**7 + '[]]', flush=True)",
    "endless standard error": HEAD + "while True: sys.stderr.write('e' * 65536)",
    "endless standard error beside replies": HEAD
    + "def flood():\n    while True: os.write(2, b'e' * 65536)\nthreading.Thread(target=flood, daemon=True).start()\n"
    + UNSUPPORTED,
    "flood after the end": UNSUPPORTED + "while True: sys.stdout.write('x' * 65536)",
    "flood of lines": LOOP + "    while True: print(json.dumps({'id': request['id'], 'refused': 'no'}))",
    "huge reasons": LOOP + SEND % "'refused': 'r' * 30_000_000",
    "large reasons": LOOP + SEND % "'unsupported': str(number) + 'r' * 900_000",
    "large arrays": LOOP + SEND % "'param': {'dtype': 'bfloat16', 'shape': [125000], 'words': ['0000'] * 125000}",
    "large intermediate values": LOOP
    + "    request.setdefault('param', {'dtype': 'float32', 'shape': [], 'words': ['00000000']})\n"
    + SEND % "'param': request['param'], 'range': ['00000000'] * 83000",
    "child holds the output": HEAD
    + "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', __file__])\n",
    "child in another session": HEAD
    + "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', __file__], start_new_session=True)\n"
    + UNSUPPORTED,
    "forks without end": HEAD
    + "for _ in range(40):\n    if os.fork() == 0: os.setsid(); time.sleep(600)\n"
    + UNSUPPORTED,
    "ignores signals": HEAD
    + "for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(one, signal.SIG_IGN)\ntime.sleep(600)",
    "is slow": LOOP + "    time.sleep(0.8)\n" + SEND % "'unsupported': 'slow'",
    "ends after each reply": LOOP + SEND % "'unsupported': 'once'" + "    sys.exit()",
    "does not exit": UNSUPPORTED + "time.sleep(600)",
    "control characters": LOOP + SEND % "'refused': '\\x1b]0;owned\\x07\\x1b[2J\\u202e\\x9b31m' + str(number)",
    "control characters in standard error": HEAD + "sys.exit('\\x1b]0;owned\\x07\\x1b[2J')",
    "control characters in an id": LOOP + "    print(json.dumps({'id': '\\x1b[2J'}), flush=True)",
    "null for an answer": LOOP + SEND % "'refused': None",
    "text for JSON": LOOP + "    print(request['id'], 'refused no', flush=True)",
    "raw bytes": LOOP + "    sys.stdout.buffer.write(bytes(range(128, 256)) + b'\\n'); sys.stdout.flush()",
    "null characters": LOOP + "    print('\\0' * 1000, flush=True)",
}


# Runs a command and writes its peak memory to a file. Linux counts the memory of the process that starts another one as
# that of the other one, so a small process must start it. It outlives the signals that are meant for the command.
LAUNCHER = """
import os, signal, sys
pid = os.fork()
if pid == 0:
    os.execv(sys.argv[2], sys.argv[2:])
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: None)
_, status, usage = os.wait4(pid, 0)
with open(sys.argv[1], "w") as file:
    file.write(str(usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status))
"""


@dataclass(frozen=True)
class Run:
    """The result of a run of the kit: exit status, output, time, peak memory, and processes that it left behind."""

    status: int
    output: bytes
    seconds: float
    megabytes: float
    left: list[int]


def attack(
    script: str, folder: Path, arguments: Sequence[str], *, interrupt_after: float = 0.0, number: int = signal.SIGINT
) -> Run:
    """Run the kit on a script as a program, and measure the run; after some seconds, send the kit a signal."""
    file = folder / "port.py"
    file.write_text(script)
    command = [sys.executable, "-m", "rose_spec", "run", "--program", f"{sys.executable} -S {file}", *arguments]
    launcher = [sys.executable, "-S", "-c", LAUNCHER, str(folder.with_suffix(".memory"))]
    started = time.monotonic()
    with (folder / "output").open("wb+") as output:
        kit = subprocess.Popen([*launcher, *command], stdout=output, stderr=output, start_new_session=True)
        if interrupt_after:
            time.sleep(interrupt_after)
            os.killpg(kit.pid, number)
        try:
            kit.wait(300.0)
        except subprocess.TimeoutExpired:
            os.killpg(kit.pid, signal.SIGKILL)
            raise
        seconds = time.monotonic() - started
        output.seek(0)
        text = output.read(10_000_000)
    left = processes_of(file)
    for process in left:
        os.kill(process, signal.SIGKILL)
    # Linux counts in units of 1024 bytes, macOS in bytes.
    megabytes = int(folder.with_suffix(".memory").read_text()) * (1 if sys.platform == "darwin" else 1024) / 1e6
    return Run(kit.returncode, text, seconds, megabytes, left)


def processes_of(file: Path) -> list[int]:
    """Return the processes whose command line names a file, on systems with /proc."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # the process has ended
            if str(file).encode() in entry.read_bytes() and int(entry.parent.name) != os.getpid():
                found.append(int(entry.parent.name))
    return found
