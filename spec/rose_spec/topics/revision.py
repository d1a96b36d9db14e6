"""Revision 1.0.0 (Appendix A): its differences from 1.0.2, and the parts that are the same."""

from typing import Any

from rose_spec.floats import FORMATS
from rose_spec.revision_1_0_0 import Rule100
from rose_spec.topics.topic import Topic, array, f32, f64, given, row, zeros

__all__ = ["build"]

NEGATIVE = [[-1.0, -3.0, -2.5], [-4.0, -4.5, -8.0]]
MIXED = [[0.3, -0.7, 1.9], [2.2, 0.4, 1.1]]


def build() -> Topic:
    """Return the topic."""
    topic = Topic("revision", "Rose 1.0.0, another algorithm", revision="1.0.0", rule=Rule100)
    _add_single_elements(topic)
    _add_vectors(topic)
    _add_ranges(topic)
    return topic


def _add_single_elements(topic: Topic) -> None:
    """Move a gradient of one element by a softsign, at every rank."""
    nested: tuple[Any, ...] = (0.3, [0.3], [[0.3]], [[[0.3]]])
    for rank, value in enumerate(nested):
        topic.step(f"softsign-rank-{rank}", "A.2 A.3", zeros("float64", *(1,) * rank), f64(value), lr=0.5, show=True)
    for name, value in (("negative", -2.0), ("small", 1e-6), ("zero", 0.0)):
        topic.step(f"softsign-{name}", "A.3", f64(1.0), f64(value), lr=0.5, show=True)
    for compute, dtype in zip(("fp64", "fp32", "fp16", "bf16"), FORMATS, strict=True):
        arrays = array(dtype, 0.25), array(dtype, 0.0625)
        topic.step(f"softsign-in-{compute}", "A.3", *arrays, lr=0.1, compute_dtype=compute, show=True)
    topic.step("softsign-decayed", "A.1 A.3", f64(2.0), f64(0.5), lr=0.5, weight_decay=0.25)


def _add_vectors(topic: Topic) -> None:
    """Divide vectors and columns by their whole range plus 1."""
    for name, grad in (("mixed", row(4)), ("positive", [1.0, 3.0, 2.0]), ("negative", [-1.0, -3.0, -2.0])):
        topic.step(f"vector-{name}", "A.4", zeros("float64", len(grad)), f64(grad), lr=0.5, show=True)
    column = [[3.0], [-0.5], [0.25]]
    topic.step("column", "A.2 A.4", zeros("float64", 3, 1), f64(column), lr=0.5, show=True)
    topic.step("column-ungated", "A.4", zeros("float32", 3, 1), f32(column), stabilize=False, show=True)
    topic.step("vector-in-fp32", "A.1 A.4", zeros("float32", 4), f32(row(4)), lr=0.1, compute_dtype="fp32", show=True)
    topic.step("vector-constant", "A.4", zeros("float64", 3), f64([0.7] * 3), lr=0.5, show=True)


def _add_ranges(topic: Topic) -> None:
    """Use max - min, where 1.0.2 uses |max| - min; they are equal for centred slices."""
    for name, grad in (("negative", NEGATIVE), ("mixed", MIXED)):
        for centralize in (True, False):
            label = f"range-{name}-{'centred' if centralize else 'uncentred'}"
            options = given(centralize=centralize, show=True)
            topic.step(label, "A.5", zeros("float64", 2, 3), f64(grad), lr=0.5, **options)
    topic.step("range-row", "A.2 A.5", zeros("float64", 1, 4), f64([row(4)]), lr=0.5, centralize=False, show=True)
