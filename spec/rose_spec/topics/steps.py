"""The step (ROSE-6): quotient, sign at rank 0, and the rounding of the result."""

import math

from rose_spec.topics.topic import Topic, array, bf16, f16, f32, f64, given, row, zeros

__all__ = ["build"]


def build() -> Topic:
    """Return the topic."""
    topic = Topic("step", "The step at rank 1 and above, and by the sign at rank 0")
    _add_quotients(topic)
    _add_signs(topic)
    _add_sign_rounding(topic)
    _add_learning_rates(topic)
    _add_overflow(topic)
    _add_limits(topic)
    return topic


def _add_quotients(topic: Topic) -> None:
    """Multiply by -lr first, then divide, then add."""
    for number, (lr, factor) in enumerate(((0.7, -0.83), (0.3, -1.19), (2.3, -0.57)), 1):
        param, grad = row(6, start=0.9, factor=-1.1), row(6, start=1.7, factor=factor)
        topic.step(f"vector-{number}", "6.1 1.5", f64(param), f64(grad), lr=lr)
        topic.step(f"vector-in-fp32-{number}", "6.1 2.4", f32(param), f32(grad), lr=lr, compute_dtype="fp32")
    rows, grad_rows = [row(4), row(4, start=-0.3)], [row(4, start=0.2), row(4, start=5.0, factor=0.4)]
    for dtype in ("float64", "float32", "float16", "bfloat16"):
        topic.step(f"matrix-{dtype}", "6.1 6.3", array(dtype, rows), array(dtype, grad_rows), lr=0.1, show=True)
    for compute, dtype in (("fp16", "float16"), ("bf16", "bfloat16"), ("fp16", "float32"), ("bf16", "float64")):
        # The three operations are in float32, and the result is rounded to 16 bits once.
        arrays = array(dtype, row(6, start=0.9, factor=-1.1)), array(dtype, row(6, start=1.7, factor=-0.73))
        topic.step(f"one-rounding-to-{compute}-{dtype}", "6.1 2.2", *arrays, lr=0.3, compute_dtype=compute)
    # The sum is rounded to float32 and then to C.
    for compute, dtype, lr, values, grads in (
        ("fp16", "float16", 0.141, [6.39, 1.07, 2.27, 2.78], [-7.25, 5.83, 7.41, 4.92]),
        ("bf16", "bfloat16", 0.075, [6.86, 1.82, 4.6, 8.84], [2.37, 8.43, 5.77, -0.78]),
    ):
        arrays = array(dtype, values), array(dtype, grads)
        topic.step(f"by-way-of-float32-{compute}", "6.1 2.2", *arrays, lr=lr, compute_dtype=compute)


def _add_signs(topic: Topic) -> None:
    """Use only the sign of the gradient at rank 0."""
    values = (
        *(("positive", 3.0), ("negative", -0.25), ("zero", 0.0), ("minus-zero", -0.0)),
        *(("infinity", math.inf), ("minus-infinity", -math.inf), ("nan", math.nan), ("subnormal", "00000001")),
    )
    for name, value in values:
        topic.step(f"sign-of-{name}", "6.2", f32(1.0), f32(value), lr=0.125)
    topic.step("sign-of-zero-keeps-minus-zero", "6.2", f64(-0.0), f64(0.0), lr=0.5)
    topic.step("sign-of-minus-zero-keeps-minus-zero", "6.2", f64(-0.0), f64(-0.0), lr=0.5)
    topic.step("sign-to-zero", "6.2", f32(0.5), f32(2.0), lr=0.5)
    topic.step("sign-maximized", "6.2 1.3", f32(1.0), f32(2.0), lr=0.5, maximize=True)
    for dtype in ("float64", "float16", "bfloat16"):
        topic.step(f"sign-{dtype}", "6.2", array(dtype, 1.0), array(dtype, -7.0), lr=0.1)
    # If the compute dtype rounds the gradient to zero, its sign is 0.
    topic.step("sign-underflows", "6.2 2.6", f32(1.0), f32(1e-9), lr=0.5, compute_dtype="fp16")
    topic.step("sign-of-tiny", "6.2", f32(1.0), f32(1e-9), lr=0.5)


def _add_sign_rounding(topic: Topic) -> None:
    """Round the learning rate to C before it is added at rank 0."""
    for compute, dtype in (("fp16", "float16"), ("bf16", "bfloat16"), ("fp32", "float32"), ("fp16", "float32")):
        for number, lr in enumerate((1e-3, 0.3, 0.7771), 1):
            name = f"sign-lr-rounded-to-{compute}-{dtype}-{number}"
            topic.step(name, "6.2 2.2", array(dtype, 0.01), array(dtype, 1.0), lr=lr, compute_dtype=compute)
    # lr lies just above the midpoint of two 16-bit values; float32 rounds it to the midpoint.
    for compute, lr in (("fp16", 1 + 2**-11 + 2**-40), ("bf16", 1 + 2**-8 + 2**-40)):
        topic.step(f"sign-lr-by-way-of-float32-{compute}", "6.2 2.4", f32(0.0), f32(1.0), lr=lr, compute_dtype=compute)


def _add_learning_rates(topic: Topic) -> None:
    """Use a zero, a tiny and a large lr, which is rounded to O and not to C at rank 1 and above."""
    param, grad = [1.0, -0.0, 0.0], [0.5, -1.0, 1.0]
    topic.step("lr-zero", "6.1", f32(param), f32(grad), lr=0.0)
    topic.step("lr-zero-rank-0", "6.2", f32(-0.0), f32(-1.0), lr=0.0)
    topic.step("lr-least-subnormal", "6.1", f64(param), f64(grad), lr=5e-324)
    topic.step("lr-vanishes-in-float32", "6.1 2.4", f32(param), f32(grad), lr=1e-50, compute_dtype="fp32")
    topic.step("lr-overflows-float32", "6.1 2.4", f32(param), f32(grad), lr=1e39, compute_dtype="fp32")
    topic.step("lr-beyond-float32-in-float64", "6.1 2.1", f32(param), f32([0.5, -1e30, 1.0]), lr=1e39)
    for compute, dtype in (("fp16", "float16"), ("bf16", "bfloat16")):
        arrays = array(dtype, [0.01, -0.02, 0.5]), array(dtype, [0.3, -0.9, 0.7])
        topic.step(f"lr-not-rounded-to-{compute}", "6.1 2.4", *arrays, lr=0.007771, compute_dtype=compute)


def _add_overflow(topic: Topic) -> None:
    """Let products, quotients and results overflow, and results become subnormal."""
    topic.step("product-overflows", "6.1", zeros("float32", 2), f32([3e38, 1e38]), lr=4.0, compute_dtype="fp32")
    topic.step("product-in-float64", "6.1 2.1", zeros("float32", 2), f32([3e38, 1e38]), lr=4.0)
    topic.step("quotient-overflows", "6.1", zeros("float32", 2), f32([1.0, "3f800001"]), lr=1e35, compute_dtype="fp32")
    topic.step("result-overflows-float16", "6.3 2.3", f16([65504.0, -65504.0]), f16([-1.0, 1.0]), lr=32.0)
    topic.step("result-overflows-bfloat16", "6.3 8.3", bf16(["7f7f", "ff7f"]), bf16([-1.0, 1.0]), lr=2.0**121)
    topic.step("result-overflows-float32", "6.3", f32(["7f7fffff", "ff7fffff"]), f32([-1.0, 1.0]), lr=2.0**105)
    subnormal = f32(["00000003", "80000005"])
    topic.step("result-subnormal-float32", "6.3", subnormal, f32([1.0, -1.0]), lr=2.0**-148)
    topic.step("result-subnormal-float16", "6.3", f16(["0003", "8005"]), f16([1.0, -1.0]), lr=2.0**-23)


def _add_limits(topic: Topic) -> None:
    """Limit the change of an element to max_step * lr."""
    nearly_equal = [1.0, 1.0, 1.0000001]
    for dtype in ("float64", "float32", "float16", "bfloat16"):
        grad = f64(nearly_equal) if dtype == "float64" else f32(nearly_equal)
        topic.step(f"limited-{dtype}", "6.4", array(dtype, [0.5, -0.5, 2.0]), grad, lr=0.1, max_step=1.7)
    matrix = [row(4, start=0.3), row(4, start=5.0, factor=-0.4)]
    for compute in ("fp64", "fp32", "fp16", "bf16"):
        arrays = f32([row(4), row(4, start=-0.3)]), f32(matrix)
        options = given(lr=0.3, max_step=0.13, compute_dtype=compute, show=True)
        topic.step(f"limited-matrix-{compute}", "6.4 2.4", *arrays, **options)
    # Only one of the two elements is beyond the limit, in either direction; one is exactly at it.
    topic.step("limited-above", "6.4", f64([1.0, 1.0]), f64([-1.0, 0.25]), lr=0.5, max_step=0.25)
    topic.step("limited-below", "6.4", f64([1.0, 1.0]), f64([2.0, -0.5]), lr=0.5, max_step=0.25)
    topic.step("limited-at-the-limit", "6.4", f64([1.0, 1.0]), f64([2.0, -2.0]), lr=0.5, max_step=0.5)
    # The decay is not limited.
    options = given(lr=0.5, max_step=0.125, weight_decay=1.5)
    topic.step("limited-after-decay", "6.4 3.1", f64([8.0, -6.0]), f64([2.0, 1.0]), **options)
    topic.step("limited-maximized", "6.4 1.3", f64([1.0, 1.0]), f64([2.0, -1.0]), lr=0.5, max_step=0.25, maximize=True)
    for name, value in (("nan", math.nan), ("infinity", math.inf)):
        topic.step(f"limited-{name}", "6.4", f32([1.0, 2.0]), f32([value, 1.0]), lr=0.5, max_step=0.25)
    for name, value in (("positive", 3.0), ("negative", -0.25), ("zero", 0.0), ("nan", math.nan)):
        topic.step(f"limited-sign-of-{name}", "6.4 6.2", f32(1.0), f32(value), lr=0.3, max_step=0.7)
    topic.step("limited-sign-in-fp16", "6.4 6.2", f32(1.0), f32(3.0), lr=0.3, max_step=0.7, compute_dtype="fp16")
    # lr * max_step is rounded to float64 first, then to float32.
    options = given(lr=0.3, max_step=0.7, compute_dtype="fp32")
    topic.step("limited-in-float32", "6.4 2.4", f32([0.1257302165031433, -1.0]), f32([4.0, 3.0]), **options)
    arrays = f64([1.0, -0.0]), f64([2.0, 1.0])
    topic.step("limited-lr-zero", "6.4", *arrays, lr=0.0, max_step=0.5)
    for name, most in (("none", None), ("infinite", math.inf), ("huge", 1e300)):
        options = given(lr=0.5, max_step=most)
        topic.step(f"limit-{name}", "6.4 10.1", f64([1.0, 2.0]), f64([1.0, 1.5]), **options)
    topic.step("limit-overflows", "6.4", f64([1.0, 2.0]), f64([1.0, 1.5]), lr=1e200, max_step=1e200)
