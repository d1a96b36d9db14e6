"""NaN and infinity: the values that each of them changes (ROSE-4.1, ROSE-7.3, ROSE-12.1)."""

import math

from rose_spec.topics.topic import Topic, bf16, f16, f32, f64, given, zeros

__all__ = ["build"]

NAN, INF = math.nan, math.inf


def build() -> Topic:
    """Return the topic."""
    topic = Topic(
        "special",
        "NaN and infinity in gradients and parameters",
        payload="An input has a NaN whose sign or payload is not the canonical one (ROSE-12.1).",
    )
    _add_nan_grads(topic)
    _add_infinite_grads(topic)
    _add_params(topic)
    _add_payloads(topic)
    return topic


def _add_nan_grads(topic: Topic) -> None:
    """Let a NaN poison its slice, and with the gate every slice."""
    param, grad = f32([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), f32([[0.5, NAN], [1.0, -2.0], [0.0, 0.0]])
    for name, options in (
        ("", given()),
        ("-ungated", given(stabilize=False)),
        ("-uncentred", given(centralize=False)),
        ("-plain", given(centralize=False, stabilize=False)),
    ):
        topic.step(f"nan-in-one-slice{name}", "4.1 5.2", param, grad, lr=0.5, **options)
    for index in range(3):
        values = [1.0, -2.0, 3.0]
        values[index] = NAN
        topic.step(f"nan-in-vector-{index}", "4.1", f32([1.0, 2.0, 3.0]), f32(values), lr=0.5)
    topic.step("nan-everywhere", "4.1", f64([1.0, 2.0]), f64([NAN, NAN]), lr=0.5)
    topic.step("nan-single-element", "4.1", f64([[1.0]]), f64([[NAN]]), lr=0.5)
    topic.step("nan-rank-0", "6.2", f64(1.0), f64(NAN), lr=0.5)
    topic.step("nan-and-lr-zero", "6.1", f32([1.0, 2.0]), f32([NAN, 1.0]), lr=0.0)
    topic.step("nan-rank-0-and-lr-zero", "6.2", f32(1.0), f32(NAN), lr=0.0)
    topic.step("nan-maximized", "1.3 4.1", f32([1.0, 2.0]), f32([NAN, 1.0]), lr=0.5, maximize=True)


def _add_infinite_grads(topic: Topic) -> None:
    """Let an infinity make the sum NaN, or the range infinite without centring."""
    param = f32([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    for sign, value in (("plus", INF), ("minus", -INF)):
        grad = f32([[0.5, value], [1.0, -2.0], [0.0, 7.0]])
        topic.step(f"{sign}-infinity", "7.3 4.2", param, grad, lr=0.5)
        topic.step(f"{sign}-infinity-ungated", "7.3 4.2", param, grad, lr=0.5, stabilize=False)
        options = given(lr=0.5, centralize=False, stabilize=False)
        topic.step(f"{sign}-infinity-plain", "4.1 4.3", param, grad, **options)
        topic.step(f"{sign}-infinity-in-vector", "4.1 4.3 5.1", f64([1.0, 2.0, 3.0]), f64([0.5, value, 2.0]), lr=0.5)
        topic.step(f"{sign}-infinity-rank-0", "6.2", f16(1.0), f16(value), lr=0.5)
    both = f32([[INF, -INF], [1.0, 2.0], [3.0, 5.0]])
    topic.step("both-infinities-plain", "4.3", param, both, lr=0.5, centralize=False, stabilize=False)
    topic.step("infinite-range-gated", "7.3 5.2", param, both, lr=0.5, centralize=False)
    topic.step("infinities-only", "4.3", f32([1.0, 2.0]), f32([-INF, -INF]), lr=0.5)
    topic.step("infinite-vector", "4.3", f32([1.0, 2.0]), f32([INF, INF]), lr=0.5)
    topic.step("infinite-and-lr-zero", "6.1", f32([1.0, 2.0]), f32([INF, 1.0]), lr=0.0)
    # The value is finite in float32 and infinite in the compute dtype.
    topic.step("infinite-by-rounding", "2.6 4.2", f32([[1.0, 2.0]]), f32([[1e5, 1.0]]), lr=0.5, compute_dtype="fp16")


def _add_params(topic: Topic) -> None:
    """Keep parameters that are not finite, and update the others."""
    values = [[NAN, INF, -INF], [1.0, -0.0, 0.0]]
    grad = [[0.5, -1.0, 2.0], [0.0, 1.0, -1.0]]
    for dtype, make in (("float64", f64), ("float32", f32), ("float16", f16), ("bfloat16", bf16)):
        topic.step(f"param-{dtype}", "6.1 6.3", make(values), make(grad), lr=0.5, weight_decay=0.1)
    topic.step("param-rank-0-nan", "6.2", f32(NAN), f32(1.0), lr=0.5)
    topic.step("param-rank-0-infinity", "6.2", f32(INF), f32(1.0), lr=0.5)
    topic.step("param-nan-zero-gradient", "6.1", f32([NAN, 1.0]), f32([0.0, 0.0]), lr=0.5)


def _add_payloads(topic: Topic) -> None:
    """Use NaNs of any sign and payload, which the port may change."""
    words = ["7fffffff", "ffc00000", "7f800001", "ff800001"]
    topic.step("payload-param", "12.1", f32(words), f32([1.0, 2.0, 3.0, 4.0]), flags="payload")
    grad = f32([[word, "3f800000"] for word in words])
    topic.step("payload-grad", "12.1", zeros("float32", 4, 2), grad, stabilize=False, flags="payload")
    topic.step("payload-float16", "12.1", f16(["7fff", "fe00", "7c01"]), f16([1.0, 2.0, 3.0]), flags="payload")
    wide = f64(["7fffffffffffffff", "fff8000000000000", "7ff0000000000001"])
    topic.step("payload-float64", "12.1", wide, f64([1.0, 2.0, 3.0]), flags="payload")
    topic.step("payload-rank-0", "12.1 6.2", f32(1.0), f32("ffffffff"), flags="payload")
