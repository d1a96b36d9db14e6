"""The topics of the vectors: one module with tables of inputs for each subject."""

from collections.abc import Callable, Mapping
from typing import Final

from rose_spec.topics import (
    decay,
    defaults,
    digests,
    gate,
    layout,
    noise,
    options,
    precision,
    recorded,
    revision,
    rounding,
    special,
    statistics,
    steps,
    sums,
    trajectories,
)
from rose_spec.topics.topic import Topic

__all__ = ["SLOW", "TOPICS"]

# Maps the name of each vector file to the function that builds its contents.
TOPICS: Final[Mapping[str, Callable[[], Topic]]] = {
    "decay": decay.build,
    "defaults": defaults.build,
    "digests": digests.build_small,
    "digests-large": digests.build_large,
    "gate": gate.build,
    "layout": layout.build,
    "names": options.build_names,
    "noise": noise.build,
    "precision": precision.build,
    "recorded": recorded.build,
    "refusals": options.build_refusals,
    "revision": revision.build,
    "rounding": rounding.build,
    "special": special.build,
    "statistics": statistics.build,
    "step": steps.build,
    "sums": sums.build,
    "trajectories": trajectories.build,
}

# The topics that take about a minute to build.
SLOW: Final = ("digests-large",)
