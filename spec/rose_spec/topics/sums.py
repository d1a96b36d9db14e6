"""Reproducible sums (ROSE-7), with values for which a left-to-right sum or an exact sum differs."""

from collections.abc import Sequence

from rose_spec.topics.topic import Topic, array, f32, f64, row, zeros

__all__ = ["build"]

# The sum is 2 in every order.
CANCELLING = (1e16, 1.0, -1e16, 1.0)
# The magnitudes are so different that every partial sum is rounded.
WIDE = (1e10, 0.1, -1e10, 3e-7, 1.7e5, -1.7e5, 0.3, 1e-12)
TENTHS = (0.7, 0.1, 0.9, 0.3, 0.2, 0.8, 0.5, 0.6, 0.4)


def build() -> Topic:
    """Return the topic."""
    topic = Topic("sums", "Sums and means that do not depend on the order of the summands")
    _add_orders(topic)
    _add_lengths(topic)
    _add_cancelling(topic)
    _add_truncated(topic)
    _add_ranges(topic)
    _add_overflowing(topic)
    return topic


def _orders(values: Sequence[float]) -> dict[str, list[float]]:
    """Return different orders of the values by name."""
    orders = {
        "in-order": list(values),
        "reversed": list(reversed(values)),
        "sorted": sorted(values),
        "by-magnitude": sorted(values, key=abs),
        "interleaved": [*values[::2], *values[1::2]],
    }
    names = {tuple(arranged): name for name, arranged in reversed(orders.items())}
    return {name: orders[name] for name in reversed(names.values())}


def _add_orders(topic: Topic) -> None:
    """Sum each set of values in five orders, with the same mean."""
    for name, values in (("cancelling", CANCELLING), ("wide", WIDE), ("tenths", TENTHS)):
        for order, arranged in _orders(values).items():
            grad = f64([arranged])
            topic.step(f"{name}-{order}", "7.1 7.2", zeros("float64", *grad.shape), grad, show=True)
    # The two halves of the slice have different magnitudes, like two shards.
    for number, halves in enumerate(([1.0, 2.0**-53, 2.0**-53, 0.0], [1e16, 1.0, 0.7, -1e16, 0.1, 2.0**-10]), 1):
        middle = len(halves) // 2
        exchanged = halves[middle:] + halves[:middle]
        topic.step(f"two-shards-{number}", "7.1 7.4", zeros("float64", 1, len(halves)), f64([halves]), show=True)
        topic.step(
            f"two-shards-{number}-exchanged", "7.1 7.4", zeros("float64", 1, len(halves)), f64([exchanged]), show=True
        )


def _add_lengths(topic: Topic) -> None:
    """Use lengths around the powers of two, at which L changes."""
    for count in (2, 3, 4, 5, 8, 9, 16, 17, 33):
        values = [((37 * i) % 101 - 47) * scale for i, scale in enumerate(row(count, factor=1.1))]
        topic.step(f"length-{count}", "7.2", zeros("float64", 1, count), f64([values]), stabilize=False, show=count > 9)
    cube = [[row(3, start=0.1 * (i + 1) * (j - 1.3)) for j in range(3)] for i in range(2)]
    topic.step("length-3-by-3", "7.1 7.2 1.2", zeros("float64", 2, 3, 3), f64(cube), show=True)


def _add_cancelling(topic: Topic) -> None:
    """Cancel to +0, and sum zeros to +0."""
    param = f64([[-0.0] * 4])
    topic.step("cancelled-to-zero", "7.2 7.3", param, f64([[1e300, -1e300, 3.0, -3.0]]), show=True)
    topic.step("zeros", "7.3", param, f64([[0.0, -0.0, 0.0, -0.0]]), show=True)
    topic.step("minus-zeros", "7.3", param, f64([[-0.0] * 4]), show=True)
    # Opposite slices have opposite means.
    values = [0.1, 0.7, -0.3, 1e-3]
    topic.step("opposite", "7.2", zeros("float64", 2, 4), f64([values, [-v for v in values]]), show=True)


def _add_truncated(topic: Topic) -> None:
    """Truncate bits far below the largest summand, which an exact sum would keep."""
    for exponent in (100, 101, 102, 103, 104, 105, 106, 110, 126):
        grad = f64([[1.0, -1.0, 2.0**-exponent, 0.0]])
        topic.step(f"truncated-at-{exponent}", "7.2", zeros("float64", 1, 4), grad, stabilize=False, show=True)
    # With L = 1 the last bit would not be truncated, and would break the tie.
    pair = f64([[1.0, 2.0**-53 + 2.0**-105]])
    topic.step("truncated-of-2", "7.2", zeros("float64", 1, 2), pair, stabilize=False, show=True)
    for count, exponent in ((5, 101), (8, 101), (9, 99), (16, 99)):
        values = [1.0, -1.0, *([2.0**-exponent] * 2), *([0.0] * (count - 4))]
        name = f"truncated-at-{exponent}-of-{count}"
        topic.step(name, "7.2", zeros("float64", 1, count), f64([values]), stabilize=False, show=True)
    # The first length of a larger L: its last fold keeps two bits less, and rounds a half to even.
    for count, exponent in ((5, 102), (9, 100), (17, 98), (33, 96)):
        values = [1.0, -1.0, 2.0**-exponent, *([0.0] * (count - 3))]
        grad = f64([values, [-3 * value for value in values]])
        topic.step(f"half-of-{count}", "7.2", zeros("float64", 2, count), grad, stabilize=False, show=True)
    # Ties of the first fold are rounded to even.
    ties = [1.0, 3 * 2.0**-51, 2.0**-51, -5 * 2.0**-51, 2.0**-52]
    topic.step("ties", "7.2", zeros("float64", 1, 5), f64([ties]), stabilize=False, show=True)
    # M is a power of two, so P is half of it.
    topic.step(
        "power-of-two", "7.2", zeros("float64", 1, 3), f64([[1.0, 2.0**-50, 2.0**-104]]), stabilize=False, show=True
    )
    topic.step(
        "subnormals", "7.2", zeros("float64", 1, 3), f64([[5e-324, 1.5e-323, -2e-323]]), stabilize=False, show=True
    )
    for dtype, small in (("float32", 2.0**-126), ("bfloat16", 2.0**-120)):
        arrays = zeros(dtype, 1, 3), array(dtype, [[1.0, -1.0, small]])
        topic.step(f"truncated-{dtype}", "7.2", *arrays, stabilize=False, show=True)


def _add_overflowing(topic: Topic) -> None:
    """Let r + s overflow, which makes the sum NaN, and let it nearly overflow."""
    for name, high in (("overflows", 2.0**1022), ("nearly-overflows", 2.0**1022 * (1 - 2.0**-53))):
        for sign, label in ((1.0, "above"), (-1.0, "below")):
            grad = f64([[sign * high, sign * 2.0**1020, sign * 2.0**1019]])
            topic.step(f"{name}-{label}", "7.3", zeros("float64", 1, 3), grad, stabilize=False, show=True)
    # No r + s overflows, but S_1 does. The clip makes the infinite mean the extremum of its slice.
    high, below = 2.0**1021, 2.0**1021 * (1 - 2.0**-53)
    for name, values in (
        ("fold-overflows-above", [high] * 8),
        ("fold-overflows-below", [-high] * 8),
        ("fold-overflows-by-rounding", [high] * 7 + [below]),
        ("fold-nearly-overflows", [high] * 7 + [high / 2]),
    ):
        param, grad = f64([[1.0, -0.0] * 4] * 2), f64([values, row(8)])
        topic.step(name, "7.3 4.2", param, grad, stabilize=False, show=True)
    ranges = f64([[0.0, high]] * 8)
    topic.step("fold-of-ranges-overflows", "7.3 5.2", zeros("float64", 8, 2), ranges, centralize=False, show=True)


def _add_ranges(topic: Topic) -> None:
    """Use reproducible sums in the gate too."""
    for order, arranged in _orders((17.3, 1e8, 0.1, 3e-4, 2.9)).items():
        grad = f64([[value, -value] for value in arranged])
        topic.step(f"ranges-{order}", "7.1 5.2", zeros("float64", 5, 2), grad)
    grad32 = f32([[value, -value] for value in TENTHS])
    topic.step("ranges-in-fp32", "7.2 5.2", zeros("float32", 9, 2), grad32, compute_dtype="fp32", show=True)
