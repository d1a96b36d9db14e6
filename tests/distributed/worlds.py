"""Worlds of processes that run functions together, started once and kept for all tests."""

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

# A rank that waits for ranks that never come raises then.
_PATIENCE: Final = datetime.timedelta(seconds=60)


class World:
    """So many processes, each a rank of a process group over gloo."""

    def __init__(self, size: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory()
        meeting = f"file://{Path(self._folder.name) / 'meeting'}"
        self._pipes, self._processes = [], []
        for rank in range(size):
            pipe, its_end = context.Pipe()
            process = context.Process(target=_serve, args=(rank, size, meeting, its_end), daemon=True)
            process.start()
            self._pipes.append(pipe)
            self._processes.append(process)

    def run(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """Return what the function returns on each rank, which is its first argument; raise if it raises on one."""
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


def _serve(rank: int, size: int, meeting: str, pipe: Connection) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size, timeout=_PATIENCE)
    while (task := pipe.recv()) is not None:
        function, args = task
        try:
            pipe.send((True, function(rank, *args)))
        except Exception:
            pipe.send((False, traceback.format_exc()))
    torch.distributed.destroy_process_group()
