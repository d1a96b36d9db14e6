"""The gate over all slices (ROSE-5): trust factor and denominators."""

from rose_spec.topics.topic import Topic, array, f32, f64, given, row, zeros

__all__ = ["build"]

# The ranges 3, 4, 2 are similar, so their trust factor is high. The ranges 1, 1, 1, 1, 1, 40 are not.
EVEN = [[1.0, 4.0, 2.0], [0.5, -3.5, -1.0], [0.0, 2.0, 0.25]]
UNEVEN = [[0.0, 1.0], [3.0, 2.0], [-0.5, 0.5], [7.0, 8.0], [-1.0, 0.0], [20.0, -20.0]]


def build() -> Topic:
    """Return the topic."""
    topic = Topic(
        "gate",
        "Mean, standard deviation and trust factor of the ranges, and the denominators",
        overflow="The squares of the deviations overflow or underflow in float64.",
    )
    _add_branches(topic)
    _add_agreement(topic)
    _add_roots(topic)
    _add_blends(topic)
    _add_zeros(topic)
    _add_extremes(topic)
    _add_off(topic)
    return topic


def _add_branches(topic: Topic) -> None:
    """Reach both branches, a trust factor of at least 1/2 and below, in every compute dtype."""
    for name, grad in (("trusted", EVEN), ("distrusted", UNEVEN)):
        shape = len(grad), len(grad[0])
        for dtype in ("float64", "float32", "float16", "bfloat16"):
            arrays = zeros(dtype, *shape), array(dtype, grad)
            topic.step(f"{name}-{dtype}", "5.2 5.3 5.4", *arrays, show=True)
        for compute in ("fp32", "fp16", "bf16"):
            arrays = zeros("float32", *shape), f32(grad)
            topic.step(f"{name}-in-{compute}", "5.2 5.3 5.4 2.2", *arrays, compute_dtype=compute, show=True)
        topic.step(f"{name}-uncentred", "5.1 5.4", zeros("float64", *shape), f64(grad), centralize=False, show=True)
    # The ranges are 0 and 2a, so mean and standard deviation are a, and the trust factor is exactly 1/2.
    topic.step("trust-one-half", "5.3 5.4", zeros("float64", 2, 2), f64([[0.3, 0.3], [0.7, -0.7]]), show=True)
    # The trust factor is exactly 1/2, and the two blends have different bits.
    for name, compute, ranges in (
        ("trust-one-half-in-fp64", "fp64", (1.75, 2.43, 0.28, 0.44, "401a800ea2bddd74")),
        ("trust-one-half-in-fp32", "fp32", (2.82, 1.21, 0.73, 1.32, "4021662d0b000000")),
        ("trust-just-below-one-half", "fp64", (0.79, 1.68, 1.17, 1.85, "402035d364680ec8")),
    ):
        arrays = zeros("float64", 5, 2), f64([[0.0, value] for value in ranges])
        topic.step(name, "5.4", *arrays, centralize=False, compute_dtype=compute, show=True)
    for number, factor in enumerate((3.1, 5.3, 9.7), 1):
        rows = f64([[0.0, value] for value in row(5, start=0.1, factor=factor)])
        topic.step(f"distrusted-{number}", "5.2 5.3 5.4", zeros("float64", 5, 2), rows)
    for number, factor in enumerate((1.1, 1.3, 0.8, 1.7), 1):
        rows = f64([[0.0, value] for value in row(5, start=0.1, factor=factor)])
        topic.step(f"trusted-{number}", "5.2 5.3 5.4", zeros("float64", 5, 2), rows)


def _add_agreement(topic: Topic) -> None:
    """Equal ranges or a single slice: the trust factor is 1, and every slice keeps its range."""
    equal = f64([[0.1, 0.4], [0.4, 0.1], [0.4, 0.1]])
    topic.step("equal-ranges", "5.2 5.3", zeros("float64", 3, 2), equal, show=True)
    topic.step("one-slice", "5.2 5.3", zeros("float32", 1, 4), f32([row(4)]), show=True)
    # The mean of equal ranges is off by one bit, so the standard deviation is not 0.
    grad = f64([[0.0, 0.1], [0.0, 0.1], [0.0, 0.1]])
    topic.step("equal-ranges-rounded-mean", "5.2", zeros("float64", 3, 2), grad, centralize=False, show=True)
    rank3 = [[[1.0, 2.0], [0.5, -1.0]], [[4.0, 0.0], [1.0, 3.0]], [[0.1, 0.2], [0.0, 0.3]]]
    topic.step("rank-3", "5.1 5.2", zeros("float64", 3, 2, 2), f64(rank3), show=True)


def _add_roots(topic: Topic) -> None:
    """Use variances whose square root some libraries round wrongly, which changes the result."""
    for number, (low, high) in enumerate(((0.3, 1.7), (0.9, 5.3), (2.3, 0.11), (13.0, 0.7), (0.01, 0.023)), 1):
        grad = f64([[-low, low], [high, -high], [low, high], [0.5, -high]])
        options = given(centralize=False, show=True)
        topic.step(f"square-root-{number}", "5.2", zeros("float64", 4, 2), grad, **options)


def _add_blends(topic: Topic) -> None:
    """Round each operation of the blend, fuse none, and use the formula of the right branch."""
    for number, start in enumerate((0.3, 1.9, 7.1), 1):
        even = [row(3, start=first, factor=-1.7) for first in row(6, start=start, factor=1.07)]
        topic.step(f"blend-trusted-{number}", "5.4 1.5", zeros("float64", 6, 3), f64(even), show=True)
        uneven = [row(3, start=first, factor=-1.7) for first in row(6, start=start, factor=4.3)]
        topic.step(f"blend-distrusted-{number}", "5.4 1.5", zeros("float64", 6, 3), f64(uneven), show=True)
    for compute in ("fp32", "fp16", "bf16"):
        for name, factor in (("trusted", 1.07), ("distrusted", 4.3)):
            grad = f32([row(3, start=first, factor=-1.7) for first in row(6, start=0.3, factor=factor)])
            arrays = zeros("float32", 6, 3), grad
            topic.step(f"blend-{name}-in-{compute}", "5.4 2.2", *arrays, compute_dtype=compute)
    # A sum or product of the blend differs if it is rounded directly to C, not to float32 first.
    for name, compute, ranges in (
        ("distrusted-1", "fp16", (51.65, 0.28, 1.19, 1.71, 2.9)),
        ("distrusted-2", "fp16", (1.32, 1.95, 213.07, 0.14, 2.62)),
        ("trusted-1", "fp16", (1.81, 2.72, 0.14, 0.31)),
        ("trusted-2", "fp16", (0.0136, 0.933, 1.0505, 0.7996, 0.0117)),
        ("distrusted-1", "bf16", (7.96, 2.39, 1.35, 39.18, 1.52)),
        ("distrusted-2", "bf16", (46.4844, 163885.5852, 10.2484, 0.002, 11.4462)),
        ("trusted-1", "bf16", (2.88, 1.5, 2.58, 0.7)),
    ):
        arrays = zeros("float32", len(ranges), 2), f32([[0.0, value] for value in ranges])
        options = given(centralize=False, compute_dtype=compute, show=True)
        topic.step(f"blend-by-way-of-float32-{name}-{compute}", "5.4 2.2", *arrays, **options)


def _add_zeros(topic: Topic) -> None:
    """Reach a mean of 0, and denominators of 0 next to others."""
    constant = f32([[2.0, 2.0], [-3.0, -3.0]])
    topic.step("all-ranges-zero", "5.3 5.5", f32([[1.0, 2.0], [3.0, 4.0]]), constant, show=True)
    topic.step(
        "all-ranges-zero-uncentred", "5.3 5.5", zeros("float32", 2, 2), f32([[2.0, 2.0], [3.0, 3.0]]), centralize=False
    )
    topic.step("zero-gradient", "5.3 5.5", f32([[1.0, -0.0], [3.0, 0.0]]), zeros("float32", 2, 2), show=True)
    some = f32([[2.0, 2.0], [1.0, 3.0], [0.0, 0.0]])
    topic.step("some-ranges-zero-ungated", "5.5", zeros("float32", 3, 2), some, centralize=False, stabilize=False)
    topic.step("some-ranges-zero-gated", "5.4 5.5", zeros("float32", 3, 2), some, centralize=False, show=True)
    topic.step("zero-vector", "5.5", f64([1.0, -0.0]), f64([0.0, -0.0]), show=True)
    # The mean underflows to 0 in C although not all ranges are 0.
    tiny = f32([[0.0, 0.0], [0.0, 0.0], [0.0, "33800000"]])
    options = given(centralize=False, compute_dtype="fp16", show=True)
    topic.step("mean-underflows", "5.3", zeros("float32", 3, 2), tiny, **options)


def _add_extremes(topic: Topic) -> None:
    """Squares that overflow make all denominators NaN; squares that underflow give a trust factor of 1."""
    for name, scale in (("variance-overflows", 1e200), ("variance-vanishes", 1e-200)):
        grad = f64([[scale, 2 * scale], [scale, -scale], [3 * scale, 9 * scale]])
        topic.step(name, "5.2 7.3", zeros("float64", 3, 2), grad, flags="overflow", show=True)
    grad = f32([[3e38, -3e38], [1.0, 2.0]])
    topic.step("infinite-range", "5.2", zeros("float32", 2, 2), grad, compute_dtype="fp32", show=True)
    topic.step("ranges-beyond-float32", "5.2 2.1", zeros("float32", 2, 2), grad, show=True)
    # A single slice passes the gate too: its infinite range has no mean.
    grad = f32([[3e38, -3e38]])
    topic.step("one-slice-infinite-range", "5.1 5.2", f32([[1.0, 2.0]]), grad, compute_dtype="fp32", show=True)
    grad = f64([[2.0**1022, -(2.0**1022)]])
    topic.step("one-slice-overflows", "7.3 5.1", f64([[1.0, 2.0]]), grad, centralize=False, show=True)


def _add_off(topic: Topic) -> None:
    """Use the range as the denominator, without stabilize and at rank 1."""
    topic.step("off", "5.1", zeros("float64", 3, 3), f64(EVEN), stabilize=False, show=True)
    topic.step("off-uncentred", "5.1", zeros("float64", 3, 3), f64(EVEN), stabilize=False, centralize=False, show=True)
    topic.step("off-uneven", "5.1", zeros("float32", 6, 2), f32(UNEVEN), stabilize=False, show=True)
    topic.step("rank-1", "5.1", f64([0.0] * 3), f64([0.3, -0.4, 0.1]), show=True)
