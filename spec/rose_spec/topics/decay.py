"""Weight decay (ROSE-3): its order, its factor, its clamp and its schedule."""

import math

from rose_spec.topics.topic import Topic, array, bf16, f16, f32, f64, given, row, zeros

__all__ = ["build"]


def build() -> Topic:
    """Return the topic."""
    topic = Topic("decay", "Decoupled weight decay, its factor and its schedule")
    _add_plain(topic)
    _add_order(topic)
    _add_factor(topic)
    _add_clamped(topic)
    _add_scheduled(topic)
    _add_without(topic)
    return topic


def _add_plain(topic: Topic) -> None:
    """Decay every dtype and rank, with a zero gradient, so that only decay changes the parameter."""
    for dtype in ("float64", "float32", "float16", "bfloat16"):
        param, grad = array(dtype, [row(3), row(3, start=0.1)]), zeros(dtype, 2, 3)
        topic.step(f"exact-{dtype}", "3.1 3.2", param, grad, lr=0.5, weight_decay=0.5)
        topic.step(f"rounded-{dtype}", "3.1 3.2", param, grad, lr=0.1, weight_decay=0.3)
    topic.step("rank-0", "3.1", f32(3.0), f32(0.0), lr=0.1, weight_decay=0.1)
    topic.step("rank-1", "3.1", f32(row(4)), f32([0.0] * 4), lr=0.1, weight_decay=0.1)
    topic.step("rank-3", "3.1", f32([[row(2)], [row(2, start=3.0)]]), zeros("float32", 2, 1, 2), lr=0.1, weight_decay=1)


def _add_order(topic: Topic) -> None:
    """Decay before the step, and outside the gradient."""
    param, grad = [[3.0, -5.0, 7.0], [0.5, 20.0, -2.0]], [[0.1, 0.5, -0.3], [0.25, -1.5, 1.0]]
    for dtype in ("float64", "float32", "bfloat16"):
        arrays = array(dtype, param), array(dtype, grad)
        topic.step(f"before-the-step-{dtype}", "3.1 6.1", *arrays, lr=0.5, weight_decay=0.5)
    topic.step("rank-0-before-the-step", "3.1 6.2", f32(2.0), f32(-3.0), lr=0.5, weight_decay=0.5)
    topic.step("rank-1-before-the-step", "3.1 6.1", f64([4.0, 1.0]), f64([1.0, -2.0]), lr=0.25, weight_decay=1.0)
    # If decay were added to the gradient, it would change the range and the direction.
    topic.step("not-in-the-gradient", "3.1", f64([[100.0, -100.0]]), f64([[1.0, 2.0]]), lr=0.01, weight_decay=0.1)
    topic.step("not-in-a-zero-gradient", "3.1", f32([8.0, -8.0]), f32([0.0, 0.0]), lr=0.5, weight_decay=0.25)
    topic.step("maximized", "3.1 1.3", f32([8.0, -6.0]), f32([2.0, 1.0]), lr=0.5, weight_decay=0.25, maximize=True)
    # The product is rounded to C once, before the step.
    for compute, dtype in (("fp16", "float16"), ("bf16", "bfloat16"), ("fp32", "float32")):
        arrays = array(dtype, row(6, start=1.7)), array(dtype, [0.3, -0.7, 0.9, 1.1, -0.2, 0.4])
        options = given(lr=0.03, weight_decay=0.7, compute_dtype=compute)
        topic.step(f"rounded-to-{compute}-before-the-step", "3.1 2.2", *arrays, **options)
    # The product is rounded to float32 and then to C.
    for compute, dtype, lr, weight_decay, values in (
        ("fp16", "float16", 0.183, 0.384, [2.74, 6.03, 2.48, 3.63]),
        ("bf16", "bfloat16", 0.75, 0.645, [6.63, 3.13, 5.83, 4.07]),
    ):
        arrays = array(dtype, values), array(dtype, [0.0] * 4)
        options = given(lr=lr, weight_decay=weight_decay, compute_dtype=compute)
        topic.step(f"by-way-of-float32-{compute}", "3.1 2.2", *arrays, **options)
    # If x * decay and the addition of the step were fused, they would be rounded once instead of twice.
    for dtype, compute in (("float64", "fp64"), ("float32", "fp32")):
        arrays = array(dtype, row(6, start=1.1, factor=0.87)), array(dtype, row(6, start=0.3, factor=1.21))
        options = given(lr=0.1, weight_decay=0.3, compute_dtype=compute)
        topic.step(f"not-contracted-with-the-step-{compute}", "1.5 3.1", *arrays, **options)


def _add_factor(topic: Topic) -> None:
    """Round each operation of the factor in float64, and the factor to O."""
    param, grad = f64([1.0, -3.0, 5.0]), f64([0.0] * 3)
    for number, (lr, weight_decay) in enumerate([(0.1, 0.57), (0.3, 0.19), (0.7, 0.9), (0.9, 0.23)], 1):
        topic.step(f"factor-{number}", "3.2", param, grad, lr=lr, weight_decay=weight_decay)
    # Float32 arithmetic would give a different factor.
    param32, grad32 = f32([1.0, -3.0, 5.0, 7.0]), f32([0.0] * 4)
    for number, (lr, weight_decay) in enumerate([(0.3, 0.3), (0.3, 0.7), (0.7, 0.3), (0.9, 0.57)], 1):
        options = given(lr=lr, weight_decay=weight_decay, compute_dtype="fp32")
        topic.step(f"factor-in-float64-for-fp32-{number}", "2.4 3.2", param32, grad32, **options)
    topic.step("factor-rounded-to-one", "2.4", param32, grad32, lr=1e-4, weight_decay=1e-4, compute_dtype="fp32")
    topic.step("factor-below-one", "3.2", f64([1.0, 3.0]), f64([0.0, 0.0]), lr=1e-8, weight_decay=1.5e-8)
    # With a 16-bit compute dtype the factor is rounded to float32 only.
    options = given(lr=0.01, weight_decay=0.05)
    topic.step("factor-not-fp16", "2.4", f16([1000.0, 3.0]), f16([0.0, 0.0]), **options, compute_dtype="fp16")
    topic.step(
        "factor-not-bf16", "2.4", bf16([255.0, 3.0]), bf16([0.0, 0.0]), lr=0.1, weight_decay=0.05, compute_dtype="bf16"
    )


def _add_clamped(topic: Topic) -> None:
    """Clamp the factor at 0, so that decay never changes the sign of the parameter."""
    param, grad = f32([[2.0, -3.0], [0.5, -0.0]]), f32([[1.0, 2.0], [4.0, -4.0]])
    for number, (lr, weight_decay) in enumerate([(1.0, 1.0), (1.0, 1.5), (3.0, 100.0), (1e200, 1e200)], 1):
        still = zeros("float32", 2, 2)
        topic.step(f"clamped-{number}", "3.2", param, still if lr > 1e100 else grad, lr=lr, weight_decay=weight_decay)
    options = given(lr=1e-3, weight_decay=2.0, lr_reference=1e-3)
    topic.step("clamped-by-schedule", "3.2 3.3", param, grad, **options)
    topic.step("clamped-rank-0", "3.2", f64(-4.0), f64(1.0), lr=0.5, weight_decay=6.0)
    # Zero times infinity is NaN; zeros keep their sign.
    special = f32([math.inf, -math.inf, -1.0, 1.0])
    topic.step("clamped-infinity", "3.2 3.1", special, f32([0.0] * 4), lr=1.0, weight_decay=1.0)


def _add_scheduled(topic: Topic) -> None:
    """Use lr / reference instead of lr."""
    param, grad = f64([[1.0, -3.0], [5.0, 7.0]]), f64([[0.5, 0.25], [1.0, -1.0]])
    # From the third on, dividing the weight decay or the product would be rounded differently.
    settings = [(1e-3, 1e-3, 0.11), (5e-4, 1e-3, 0.11), (0.7, 0.6, 0.3), (0.7, 0.9, 0.57), (0.37, 1.1, 0.3)]
    for number, (lr, reference, weight_decay) in enumerate(settings, 1):
        options = given(lr=lr, weight_decay=weight_decay, lr_reference=reference)
        topic.step(f"scheduled-{number}", "3.3", param, grad, **options)
    for number, (lr, reference) in enumerate([(0.3, 0.7), (2e-3, 3e-3)], 1):
        options = given(lr=lr, weight_decay=0.3, lr_reference=reference, compute_dtype="fp32")
        arrays = f32([[1.0, -3.0], [5.0, 7.0]]), f32([[0.5, 0.25], [1.0, -1.0]])
        topic.step(f"scheduled-fp32-{number}", "3.3 2.4", *arrays, **options)
    topic.step("scheduled-rank-0", "3.3 6.2", f64(3.0), f64(2.0), lr=0.25, weight_decay=0.5, lr_reference=0.5)
    options = given(lr=0.0, weight_decay=0.5, lr_reference=0.5)
    topic.step("scheduled-lr-zero", "3.3", f32([3.0, -0.0]), f32([1.0, -1.0]), **options)
    # The quotient overflows, so the factor is 0.
    options = given(lr=1e200, weight_decay=0.1, lr_reference=1e-200)
    topic.step("scheduled-infinite-quotient", "3.2 3.3", f64([3.0, -1.0]), f64([0.0, 0.0]), **options)


def _add_without(topic: Topic) -> None:
    """Skip decay if it is zero or none, even if the factor would not be 1."""
    param, grad = f32([1.5, -0.0]), f32([0.5, -0.5])
    topic.step("none", "3.1 10.1", param, grad, lr=0.5, weight_decay=None)
    topic.step("zero", "3.1", param, grad, lr=0.5, weight_decay=0.0)
    topic.step("none-scheduled", "3.1", param, grad, lr=0.5, weight_decay=None, lr_reference=0.5)
    options = given(lr=1e200, weight_decay=0.0, lr_reference=1e-200)
    topic.step("zero-times-infinite-quotient", "3.1", f64([3.0, -1.0]), f64([0.0, 0.0]), **options)
    topic.step("lr-zero", "3.2 6.1", param, grad, lr=0.0, weight_decay=0.5)
