"""Worlds: processes of one process group, which run functions of the tests."""

import datetime
import multiprocessing
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import torch

__all__ = ["World"]

_START: Final = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
_PRELOADED: Final = ["torch.distributed.fsdp", "torch.distributed.tensor.parallel", "rose_torch", "tests.bits"]
# A rank that waits longer for another rank raises.
_TIMEOUT: Final = datetime.timedelta(seconds=60)


class World:
    """Processes of one process group over gloo. Each is a rank."""

    def __init__(self, size: int) -> None:
        context = multiprocessing.get_context(_START)
        context.set_forkserver_preload(_PRELOADED)  # all processes share these imports
        self._folder = tempfile.TemporaryDirectory()
        address = f"file://{Path(self._folder.name) / 'store'}"
        self._pipes, self._processes = [], []
        for rank in range(size):
            pipe, remote_pipe = context.Pipe()
            process = context.Process(target=_serve, args=(rank, size, address, remote_pipe), daemon=True)
            process.start()
            self._pipes.append(pipe)
            self._processes.append(process)

    def run(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """Call a function on each rank, with the rank as its first argument, and return all results or raise."""
        for pipe in self._pipes:
            pipe.send((function, args))
        answers = [pipe.recv() for pipe in self._pipes]
        errors = [f"rank {rank}: {text}" for rank, (done, text) in enumerate(answers) if not done]
        assert not errors, "\n".join(errors)
        return [result for _, result in answers]

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join()
        self._folder.cleanup()


def _serve(rank: int, size: int, address: str, pipe: Connection) -> None:
    """Run the functions that arrive by the pipe, until None arrives."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=size, timeout=_TIMEOUT)
    while (task := pipe.recv()) is not None:
        function, args = task
        try:
            pipe.send((True, function(rank, *args)))
        except Exception:
            pipe.send((False, traceback.format_exc()))
    torch.distributed.destroy_process_group()
