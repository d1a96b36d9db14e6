"""Ranks, shapes and the axis of slices (ROSE-1)."""

from typing import Any

from rose_spec.floats import FORMATS
from rose_spec.oracle import Tensor
from rose_spec.topics.topic import Topic, array, f32, f64, given, zeros

__all__ = ["build"]

SHAPES = (
    *((2, 5), (5, 2), (1, 6), (6, 1), (3, 3)),
    *((2, 3, 2), (3, 2, 2), (2, 1, 4), (4, 1, 1), (1, 3, 2)),
    *((2, 2, 3, 1), (3, 1, 2, 2), (1, 1, 1, 5), (2, 2, 1, 2), (2, 1, 3, 1, 2)),
)


def build() -> Topic:
    """Return the topic."""
    topic = Topic("layout", "Ranks 0 to 5, slices along axis 0, and parameters without elements")
    _add_shapes(topic)
    _add_ranks_apart(topic)
    _add_empty(topic)
    _add_dtypes(topic)
    return topic


def _values(dtype: str, shape: tuple[int, ...]) -> Tensor:
    """Return values whose slices differ along every axis."""
    count = zeros(dtype, *shape).values
    flat = [((i * i * 7 + 3 * i) % 23 - 9) * 0.37 + 0.01 * i for i in range(len(count))]
    return Tensor(dtype, shape, array(dtype, flat).values)


def _add_shapes(topic: Topic) -> None:
    """Take slices along axis 0, in C order."""
    for shape in SHAPES:
        grad = _values("float32", shape)
        name = "-by-".join(str(length) for length in shape)
        topic.step(f"shape-{name}", "1.2", zeros("float32", *shape), grad, lr=0.5, show=len(shape) != 2)
    # The same kernel in both layouts; the result of the second is not the transpose of the first.
    kernel = [[1.0, -2.0, 0.5], [10.0, 30.0, -20.0]]
    flipped = [list(column) for column in zip(*kernel, strict=True)]
    topic.step("out-first", "1.2", zeros("float64", 2, 3), f64(kernel), show=True)
    topic.step("out-last", "1.2", zeros("float64", 3, 2), f64(flipped), show=True)
    topic.step("out-first-ungated", "1.2", zeros("float64", 2, 3), f64(kernel), stabilize=False, show=True)
    conv = Tensor("float32", (3, 2, 2, 2), _values("float32", (24,)).values)
    topic.step("convolution", "1.2", zeros("float32", 3, 2, 2, 2), conv, show=True)


def _add_ranks_apart(topic: Topic) -> None:
    """Use the same values as a vector, a row, a column and a scalar."""
    values = [0.3, -0.7, 1.9, 0.2]
    topic.step("as-vector", "1.2 4.2", zeros("float64", 4), f64(values), show=True)
    topic.step("as-row", "1.2 4.2", zeros("float64", 1, 4), f64([values]), show=True)
    topic.step("as-column", "1.2 4.2", zeros("float64", 4, 1), f64([[value] for value in values]), show=True)
    topic.step("as-column-uncentred", "1.2", zeros("float64", 4, 1), f64([[v] for v in values]), centralize=False)
    nested: tuple[Any, ...] = (0.3, [0.3], [[0.3]], [[[0.3]]], [[[[0.3]]]])
    for rank, value in enumerate(nested):
        topic.step(f"one-element-rank-{rank}", "1.2 6.2", zeros("float64", *(1,) * rank), f64(value), lr=0.5)
        options = given(lr=0.5, centralize=False)
        topic.step(
            f"one-element-uncentred-rank-{rank}", "1.2 6.2", zeros("float64", *(1,) * rank), f64(value), **options
        )


def _add_empty(topic: Topic) -> None:
    """Leave parameters without elements unchanged, at several ranks."""
    for shape in ((0,), (0, 3), (3, 0), (2, 0, 2), (0, 0), (1, 2, 3, 0)):
        name = "-by-".join(str(length) for length in shape)
        topic.step(f"empty-{name}", "1.4", zeros("float32", *shape), zeros("float32", *shape), weight_decay=0.1)
    topic.step("empty-bfloat16-with-noise", "1.4", zeros("bfloat16", 2, 0), zeros("bfloat16", 2, 0), noise=[])


def _add_dtypes(topic: Topic) -> None:
    """Combine every pair of dtypes, and maximize."""
    for dtype in FORMATS:
        for other in FORMATS:
            param, grad = _values(dtype, (2, 2)), _values(other, (2, 2))
            topic.step(f"{dtype}-param-{other}-grad", "1.1 2.6", param, grad, lr=0.3)
    topic.step("maximize", "1.3", f32([1.0, 2.0]), f32([1.0, 3.0]), maximize=True)
    topic.step("maximize-matrix", "1.3", f32([[1.0, 2.0]]), f32([[1.0, 3.0]]), maximize=True)
    topic.step("maximize-rank-0", "1.3", f32(1.0), f32(3.0), maximize=True)
