"""Rounding to bfloat16 (ROSE-8), and to nearest elsewhere.

The parameter is 0, and the largest gradient makes lr / D equal to 1. So x is exactly minus the gradient, and the
gradient chooses the words that are rounded.
"""

from collections.abc import Sequence
from itertools import product

from rose_spec.floats import FLOAT32
from rose_spec.oracle import Tensor
from rose_spec.topics.topic import Topic, bf16, f16, f32, f64, given, zeros

__all__ = ["build"]

# The lower halves of the float32 words.
HALVES = (0x0001, 0x1234, 0x7FFF, 0x8000, 0x8001, 0xFFFF)


def build() -> Topic:
    """Return the topic."""
    topic = Topic(
        "rounding",
        "Rounding to bfloat16, stochastically and to nearest, and to float16 and float32",
        payload="The gradient has NaNs with other payloads than 7fc00000. The payload in x may vary (ROSE-12.1).",
    )
    _add_stochastic(topic)
    _add_unchanged(topic)
    _add_overflow(topic)
    _add_nan(topic)
    _add_nearest(topic)
    _add_ranks(topic)
    return topic


def _opposite(words: Sequence[int], limit: float = 2.0) -> Tensor:
    """Return a float32 gradient whose step with lr = 2 * limit sets x to these words."""
    return Tensor("float32", (len(words) + 2,), (*(-FLOAT32.decode(word) for word in words), limit, -limit))


def _add_words(
    topic: Topic, name: str, clauses: str, words: Sequence[int], noise: Sequence[int] | None, limit: float = 2.0
) -> None:
    """Add a step that rounds these float32 words, and the two ends of the gradient."""
    grad = _opposite(words, limit)
    noise = None if noise is None else [*noise, 0, 0]
    topic.step(name, clauses, zeros("bfloat16", *grad.shape), grad, lr=2.0 * limit, noise=noise)


def _add_stochastic(topic: Topic) -> None:
    """Round up exactly if the noise is at least 2**16 minus the lower half."""
    for half in HALVES:
        words = [0x3F800000 + half] * 4 + [0xBFA50000 + half] * 2
        boundary = 0x10000 - half
        noise = [0, boundary - 1, boundary % 0x10000, 0xFFFF, boundary - 1, boundary % 0x10000]
        _add_words(topic, f"stochastic-{half:04x}", "8.1", words, noise)
    # The carry goes through the significand into the exponent.
    _add_words(topic, "stochastic-carry", "8.1", [0x3FFFFFFF, 0x3F7F8000, 0xBFFFC000], [1, 0x8000, 0x4000])
    _add_words(
        topic, "stochastic-subnormal", "8.1", [0x00000001, 0x0000FFFF, 0x807F8000], [0xFFFF, 1, 0x8000], 2.0**-60
    )
    # A float64 x is first rounded to the nearest float32.
    grad = f64([-(1.0 + 2**-8 + 2**-25), -(1.0 + 2**-8 - 2**-25), 2.0, -2.0])
    topic.step("stochastic-after-float32", "8.1 2.3", zeros("bfloat16", 4), grad, lr=4.0, noise=[0x8000, 0x7FFF, 0, 0])
    words = [0x3F801000 + 0x111 * i for i in range(8)]
    _add_words(topic, "stochastic-ordinary", "8.1", words, [0x2345 * i % 0x10000 for i in range(8)])


def _add_unchanged(topic: Topic) -> None:
    """Keep every bfloat16 value, whatever the noise."""
    words = [0x3F800000, 0xBF810000, 0x00010000, 0x80010000, 0x3F7F0000]
    for noise in (0x0000, 0x8000, 0xFFFF):
        _add_words(topic, f"unchanged-{noise:04x}", "8.1", words, [noise] * 5)
    param = bf16(["0000", "8000", "7f80", "ff80", "0001", "7f7f"])
    topic.step("unchanged-param", "8.1", param, f32([0.0] * 6), lr=0.5, noise=[0xFFFF] * 6)


def _add_overflow(topic: Topic) -> None:
    """Round values above the largest finite one, which may become infinite but never NaN."""
    words = [0x7F7F0001, 0x7F7F0001, 0x7F7FFFFF, 0x7F7FFFFF, 0xFF7F8000, 0xFF7F8000]
    _add_words(topic, "stochastic-overflow", "8.1", words, [0xFFFE, 0xFFFF, 0x0000, 0x0001, 0x7FFF, 0x8000], 2.0**127)
    _add_words(topic, "nearest-overflow", "8.3", [0x7F7F7FFF, 0x7F7F8000, 0xFF7F8001], None, 2.0**127)
    # These words are reached exactly, since the gradient is float64 and its ends are larger.
    values = [FLOAT32.decode(word) for word in words]
    grad = f64([*(-value for value in values), 2.0**128, -(2.0**128)])
    noise = [0xFFFE, 0xFFFF, 0x0000, 0x0001, 0x7FFF, 0x8000, 0xFFFF, 0xFFFF]
    topic.step("stochastic-overflow-to-infinity", "8.1", zeros("bfloat16", 8), grad, lr=2.0**129, noise=noise)
    topic.step("nearest-overflow-to-infinity", "8.3", zeros("bfloat16", 8), grad, lr=2.0**129)


def _add_nan(topic: Topic) -> None:
    """Keep NaN, with the word 7fc0."""
    words = ["7fffffff", "ffffffff", "7f800001", "7fc00000", "7fff8000"]
    param = bf16([[1.0]] * 5)
    for name, noise in (("nearest", None), ("0001", [1] * 5), ("ffff", [0xFFFF] * 5)):
        for compute in ("fp32", "fp64"):
            options = given(centralize=False, stabilize=False, noise=noise, compute_dtype=compute)
            clauses = "8.3 12.1" if noise is None else "8.2 12.1"
            topic.step(
                f"nan-{name}-{compute}", clauses, param, f32([[word] for word in words]), flags="payload", **options
            )
    topic.step("nan-param", "8.2", bf16(["7fff", "ffff", "7f81"]), f32([0.0] * 3), noise=[0xFFFF] * 3, flags="payload")
    # At rank 0 the NaN of the gradient reaches x directly.
    for word, single, compute in product(("7fffffff", "ffffffff"), (0x0000, 0x0001, 0xFFFF), ("fp32", "fp64")):
        options = given(noise=[single], compute_dtype=compute, flags="payload")
        topic.step(f"nan-rank-0-{word}-{single:04x}-{compute}", "8.2 6.2", bf16(1.0), f32(word), **options)
    # Infinity minus infinity is NaN.
    arrays = bf16(["7f80", "ff80"]), f32([1.0, -1.0])
    topic.step("nan-made", "8.2", *arrays, lr=1e39, compute_dtype="fp32", noise=[0xFFFF, 0x0001])


def _add_nearest(topic: Topic) -> None:
    """Round ties to even in every dtype."""
    words = [0x3F808000, 0x3F818000, 0x3F807FFF, 0x3F808001, 0xBF808000, 0xBF818000, 0x00008000, 0x00018000]
    _add_words(topic, "nearest-bfloat16", "8.3", words, None)
    ties = [-(1 + 2**-11), -(1 + 3 * 2**-11), 1 + 2**-11, 1 + 3 * 2**-11, -(2**-25), -3 * 2**-25]
    topic.step("nearest-float16", "6.3", zeros("float16", 8), f64([*ties, 2.0, -2.0]), lr=4.0)
    ties = [-(1 + 2**-24), -(1 + 3 * 2**-24), 1 + 2**-24, 1 + 3 * 2**-24, -(2.0**-150), -3 * 2.0**-150]
    topic.step("nearest-float32", "6.3", zeros("float32", 8), f64([*ties, 2.0, -2.0]), lr=4.0)
    topic.step("nearest-overflow-float16", "6.3", f16([0.0] * 3), f64([-65519.0, -65520.0, 65536.0]), lr=131055.0)


def _add_ranks(topic: Topic) -> None:
    """Round at rank 0, and matrices after the gate."""
    for word in (0x0000, 0x7FFF, 0x8000, 0xFFFF):
        topic.step(f"rank-0-{word:04x}", "8.1 6.2", bf16(1.0), bf16(1.0), lr=2.0**-9 + 2.0**-10, noise=[word])
    param, grad = bf16([[0.3, -1.7, 2.2], [0.01, 5.5, -0.9]]), f32([[0.1, -0.4, 0.9], [3.0, 1.0, -2.0]])
    noise = [0x0123, 0x4567, 0x89AB, 0xCDEF, 0xFEDC, 0x3210]
    for compute in ("fp64", "fp32"):
        options = given(lr=1e-3, weight_decay=0.01, noise=noise, compute_dtype=compute)
        topic.step(f"matrix-{compute}", "8.1", param, grad, **options, show=True)
    topic.step("matrix-nearest", "8.3", param, grad, lr=1e-3, weight_decay=0.01)
