"""Mean and range of a slice (ROSE-4)."""

from rose_spec.topics.topic import Topic, array, bf16, f16, f32, f64, given, row, zeros

__all__ = ["build"]

NEGATIVE = [[-1.0, -3.0, -2.5], [-4.0, -4.5, -8.0]]
MIXED = [[0.3, -0.7, 1.9], [2.2, 0.4, 1.1]]


def build() -> Topic:
    """Return the topic."""
    topic = Topic("statistics", "Mean, centring and range of a slice")
    _add_means(topic)
    _add_constant(topic)
    _add_signs(topic)
    _add_zero_means(topic)
    _add_ranges(topic)
    _add_single(topic)
    return topic


def _add_means(topic: Topic) -> None:
    """Reach means that are exact and means that are rounded, in every dtype."""
    for dtype in ("float64", "float32", "float16", "bfloat16"):
        exact = array(dtype, [[1.0, 2.0, 6.0, 7.0], [-3.0, 5.0, 0.0, -2.0]])
        param = zeros(dtype, 2, 4)
        topic.step(f"mean-exact-{dtype}", "4.2 4.3", param, exact, stabilize=False, show=True)
        rounded = array(dtype, MIXED)
        topic.step(f"mean-rounded-{dtype}", "4.2 4.3 2.6", zeros(dtype, 2, 3), rounded, stabilize=False, show=True)
    for compute in ("fp32", "fp16", "bf16"):
        options = given(compute_dtype=compute, stabilize=False, show=True)
        topic.step(f"mean-rounded-to-{compute}", "4.2 2.2", zeros("float32", 2, 3), f32(MIXED), **options)
        wide = f64([row(7, start=0.7, factor=-1.21), row(7, start=3.3, factor=0.83)])
        topic.step(f"mean-of-float64-in-{compute}", "4.2 2.3 2.6", zeros("float64", 2, 7), wide, **options)


def _add_constant(topic: Topic) -> None:
    """Centre a constant slice to exactly zero, even if its mean is rounded."""
    cases = [("float64", 0.1, 3), ("float64", 0.1, 6), ("float64", 0.7, 3), ("float64", 0.7, 6)]
    for dtype, value, count in [*cases, ("float32", 0.1, 7), ("float16", 0.7, 7), ("bfloat16", 0.3, 7)]:
        name = f"constant-{dtype}-{count}-of-{str(value).replace('.', '-')}"
        grad = array(dtype, [[value] * count, [-value] * count])
        topic.step(name, "4.2", zeros(dtype, 2, count), grad)
    for compute in ("fp32", "fp16", "bf16"):
        grad = f32([[0.1] * 7, [-0.9] * 7])
        topic.step(f"constant-in-{compute}", "4.2 5.5", zeros("float32", 2, 7), grad, compute_dtype=compute, show=True)
    # Nearly constant: the mean is rounded to an extremum of the slice, or beyond it before the clip.
    up = "3fb999999999999b"
    grad = f64([[0.1, 0.1, up], [0.1, up, up], [up, up, up]])
    topic.step("nearly-constant", "4.2", zeros("float64", 3, 3), grad, stabilize=False, show=True)
    topic.step("constant-subnormal", "4.2", zeros("float64", 1, 3), f64([["0000000000000001"] * 3]), show=True)
    # A vector, and a matrix without centring, are not centred, so nothing is clipped.
    topic.step("constant-vector", "4.2 4.3", zeros("float64", 3), f64([0.1] * 3))
    topic.step("constant-uncentred", "4.2 4.3", zeros("float64", 2, 3), f64([[0.1] * 3, [-0.1] * 3]), centralize=False)


def _add_signs(topic: Topic) -> None:
    """Use |max| - min, which is max - min only if max >= 0."""
    topic.step("all-negative-vector", "4.3", f32([0.0] * 3), f32([-1.0, -3.0, -2.0]), show=True)
    topic.step("all-positive-vector", "4.3", f32([0.0] * 3), f32([1.0, 3.0, 2.0]), show=True)
    topic.step("mixed-vector", "4.2 4.3", f32([0.0] * 3), f32([-1.0, 3.0, 2.0]), show=True)
    topic.step("negative-to-zero-vector", "4.3", f32([0.0] * 3), f32([-1.0, -0.0, -2.0]))
    for name, stabilize in (("all-negative-uncentred", False), ("all-negative-uncentred-gated", True)):
        options = given(centralize=False, stabilize=stabilize, show=True)
        topic.step(name, "4.3", zeros("float32", 2, 3), f32(NEGATIVE), **options)
    # The range is taken after centring.
    topic.step("all-negative-centred", "4.2 4.3", zeros("float32", 2, 3), f32(NEGATIVE), stabilize=False, show=True)
    positive = [[-value for value in values] for values in NEGATIVE]
    topic.step("all-positive-centred", "4.2 4.3", zeros("float32", 2, 3), f32(positive), show=True)
    topic.step("maximized-vector", "1.3 4.3", f32([0.0] * 3), f32([1.0, 3.0, 2.0]), maximize=True)
    topic.step("maximized-uncentred", "1.3 4.3", zeros("float64", 2, 3), f64(NEGATIVE), maximize=True, centralize=False)
    topic.step("maximized-centred", "1.3 4.2", zeros("float64", 2, 3), f64(MIXED), maximize=True, show=True)
    topic.step("narrow-positive-vector", "4.3", f32([0.0, 0.0]), f32(["3f800000", "3f800001"]), lr=1e-3)


def _add_zero_means(topic: Topic) -> None:
    """Turn a mean of -0 into +0, which shows in the sign of a zero parameter."""
    param = f32([[-0.0, -0.0], [0.0, -0.0]])
    topic.step("mean-minus-zero", "4.2", param, f32([[-0.0, -0.0], [-0.0, 0.0]]), show=True)
    topic.step("mean-cancelled", "4.2 7.3", param, f32([[3.0, -3.0], [-0.5, 0.5]]), show=True)
    # The mean is a tiny negative number in float64, which C rounds to -0.
    tiny = f16([["8001", "0000", "0000", "0000"], ["8001", "8000", "8000", "8000"]])
    options = given(compute_dtype="fp16", show=True)
    topic.step("mean-underflows-to-minus-zero", "4.2", f16([[-0.0] * 4, [-0.0] * 4]), tiny, **options)


def _add_ranges(topic: Topic) -> None:
    """Centre and round each extremum, then subtract them and round."""
    for number, start in enumerate((0.7, 1.3, 2.9, 1.1), 1):
        grad = [row(5, start=start, factor=1.31), row(5, start=-start, factor=0.71)]
        options = given(stabilize=False, show=True)
        topic.step(f"range-of-rounded-ends-{number}", "4.2 4.3", zeros("float64", 2, 5), f64(grad), **options)
    for compute in ("fp32", "fp16", "bf16"):
        grad = [row(5, start=1.3, factor=1.31), row(5, start=-1.3, factor=0.71)]
        options = given(compute_dtype=compute, stabilize=False, show=True)
        topic.step(f"range-of-rounded-ends-{compute}", "4.2 4.3 2.2", zeros("float32", 2, 5), f32(grad), **options)
    # The range exceeds the largest value of the dtype, so the denominator is infinite.
    topic.step(
        "range-overflows-fp16", "4.3 5.1", f16([1.0, 2.0]), f16([60000.0, -60000.0]), compute_dtype="fp16", show=True
    )
    topic.step(
        "range-overflows-fp32", "4.3 5.1 6.1", f32([1.0, 2.0]), f32([3e38, -3e38]), compute_dtype="fp32", show=True
    )


def _add_single(topic: Topic) -> None:
    """Use slices and vectors of one element."""
    column = [[3.0], [-0.5], [0.0]]
    topic.step("single-element-slices", "4.2 5.5", f32([[1.0], [2.0], [3.0]]), f32(column), show=True)
    topic.step("single-element-slices-uncentred", "4.3 5.5", zeros("float32", 3, 1), f32(column), centralize=False)
    options = given(centralize=False, stabilize=False, show=True)
    topic.step("single-element-slices-plain", "4.3 5.5", zeros("float32", 3, 1), f32(column), **options)
    topic.step("single-element-slices-rank-3", "1.2 4.2", bf16([[[1.0]], [[2.0]]]), bf16([[[3.0]], [[5.0]]]))
    topic.step("single-element-matrix", "1.2 4.2", f16([[1.0]]), f16([[3.0]]))
    for name, value in (("positive", 2.0), ("negative", -2.0), ("zero", 0.0)):
        topic.step(f"single-element-vector-{name}", "4.3 5.5 6.1", f32([1.0]), f32([value]), lr=0.5, show=True)
