"""Portable noise (ROSE-9)."""

from rose_spec.topics.topic import Topic

__all__ = ["build"]


def build() -> Topic:
    """Return the topic."""
    topic = Topic("noise", "The words of portable noise")
    for count in (0, 1, 2, 3, 4, 5, 8, 13):
        topic.noise(f"count-{count}", "9.1 9.3", count=count, seed=0, step=0, index=0)
    topic.noise("count-64", "9.1 9.3", count=64, seed=0x0123456789ABCDEF, step=7, index=3)
    for seed in (1, 42, 2**32 - 1, 2**32, 2**32 + 1, 2**63, 2**64 - 1):
        topic.noise(f"seed-{seed:016x}", "9.2", count=6, seed=seed, step=0, index=0)
    for step in (1, 2, 1000, 2**31, 2**32 - 1):
        topic.noise(f"step-{step:08x}", "9.2", count=6, seed=0, step=step, index=0)
    for index in (1, 2, 255, 2**31, 2**32 - 1):
        topic.noise(f"index-{index:08x}", "9.2", count=6, seed=0, step=0, index=index)
    topic.noise("step-and-index", "9.2", count=6, seed=42, step=5, index=9)
    topic.noise("index-and-step", "9.2", count=6, seed=42, step=9, index=5)
    ones = 2**32 - 1
    topic.noise("all-ones", "9.1 9.2", count=6, seed=2**64 - 1, step=ones, index=ones)
    topic.noise("digits-of-pi", "9.1 9.2", count=6, seed=0x0370734413198A2E, step=0x243F6A88, index=0x85A308D3)
    return topic
