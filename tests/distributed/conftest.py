"""The worlds of processes, started once in a session."""

from collections.abc import Iterator

import pytest

from tests.distributed.worlds import World


@pytest.fixture(scope="session")
def two() -> Iterator[World]:
    """Return a world of two processes."""
    world = World(2)
    yield world
    world.close()


@pytest.fixture(scope="session")
def four() -> Iterator[World]:
    """Return a world of four processes."""
    world = World(4)
    yield world
    world.close()
