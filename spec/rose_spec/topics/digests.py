"""Digests: one hash over the results of thousands of generated steps."""

import os
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat

from rose_spec.cases import GENERATOR, digest, generated_case
from rose_spec.oracle import Rule, Tensor
from rose_spec.topics.topic import Topic
from rose_spec.vectors import options_from_json

__all__ = ["build_large", "build_small"]

CLAUSES = "2.1 2.2 2.3 2.5 2.6 3.1 3.2 3.3 4.1 4.2 4.3 5.2 5.3 5.4 5.5 6.1 6.2 6.3 7.2 8.1 8.2 8.3"


def build_small() -> Topic:
    """Return the topic of the small digests, which take a second."""
    topic = Topic("digests", "SHA-256 over the results of generated steps")
    for seed in (1, 2, 2**64 - 1):
        _add(topic, f"1000-{seed:x}", seed, 1000)
    return topic


def build_large() -> Topic:
    """Return the topic of the large digests, which take minutes."""
    topic = Topic(
        "digests-large",
        "SHA-256 over the results of a hundred thousand generated steps",
        volume="Takes long with a slow port.",
    )
    _add(topic, "100000-0", 0, 100_000, flags="volume")
    return topic


def result_of_oracle(seed: int, index: int) -> Tensor:
    """Return the oracle's answer to a generated case."""
    case = generated_case(seed, index)
    return Rule(options_from_json(case.options)).update(case.param, case.grad, case.noise).param


def _add(topic: Topic, name: str, seed: int, count: int, flags: str = "") -> None:
    question = {"generator": GENERATOR, "seed": f"{seed:016x}", "count": count}
    if count <= 1000:
        results = map(result_of_oracle, repeat(seed, count), range(count))
        topic.digest(name, CLAUSES, flags, question, digest(results))
        return
    with ProcessPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        topic.digest(
            name,
            CLAUSES,
            flags,
            question,
            digest(pool.map(result_of_oracle, repeat(seed), range(count), chunksize=500)),
        )
