"""Storage, compute and operation dtypes (ROSE-2), and their roundings."""

from itertools import product

from rose_spec.floats import FORMATS
from rose_spec.topics.topic import Topic, array, bf16, f16, f32, f64, given, row, zeros

__all__ = ["build"]

# Just above the midpoint of 1 and the next value: float32 rounds it to the midpoint, and 16 bits round that to 1.
MIDDLE = {"float16": 1 + 2**-11 + 2**-40, "bfloat16": 1 + 2**-8 + 2**-40}


def build() -> Topic:
    """Return the topic."""
    topic = Topic(
        "precision",
        "Compute dtypes, operation dtypes, and the two roundings from float64 to 16 bits",
        subnormal="A float32 value is subnormal. A device that flushes it must still be exact here (ROSE-12.3).",
        float64="A port that replaces float64 by float32 differs (ROSE-12.2).",
    )
    _add_table(topic)
    _add_double_rounding(topic)
    _add_none(topic)
    _add_mixed(topic)
    _add_float64(topic)
    _add_subnormals(topic)
    return topic


def _add_table(topic: Topic) -> None:
    """Combine every storage dtype with every compute dtype."""
    param = [row(3, start=0.9, factor=-1.3), row(3, start=-2.1, factor=0.6), row(3, start=0.05, factor=7.0)]
    grad = [row(3, start=0.7, factor=-0.83), row(3, start=3.3, factor=1.21), row(3, start=-0.4, factor=-1.9)]
    for dtype, compute in product(FORMATS, ("fp64", "fp32", "fp16", "bf16")):
        options = given(lr=0.07, weight_decay=0.3, compute_dtype=compute)
        arrays = array(dtype, param), array(dtype, grad)
        topic.step(f"{dtype}-in-{compute}", "2.1 2.2 2.6 6.3", *arrays, show=dtype == "float32", **options)


def _add_double_rounding(topic: Topic) -> None:
    """Round twice on loading, on storing, and in the mean of a slice."""
    for dtype, compute in (("float16", "fp16"), ("bfloat16", "bf16")):
        middle = MIDDLE[dtype]
        options = given(lr=0.0, compute_dtype=compute)
        topic.step(f"param-by-way-of-float32-{compute}", "2.3 2.6", f64([middle, -middle]), f64([1.0, 2.0]), **options)
        grad = f64([middle, -1.0])
        topic.step(f"grad-by-way-of-float32-{compute}", "2.3 2.6", f64([0.0, 0.0]), grad, compute_dtype=compute)
        # x is exactly -middle in float64, and is stored in 16 bits.
        arrays = zeros(dtype, 2), array(dtype, [1.0, -1.0])
        topic.step(f"result-by-way-of-float32-{dtype}", "2.3 6.3", *arrays, lr=2.0 * middle)
        topic.step(f"rank-0-result-by-way-of-float32-{dtype}", "2.3 6.3", zeros(dtype), array(dtype, 1.0), lr=middle)
    # The float64 mean of the slice lies just above the midpoint of two values of C.
    for compute, step, tiny in (("fp16", 2.0**-9, 2.0**-24), ("bf16", 2.0**-6, 2.0**-30)):
        above = [[1.0 + step, 2.0, 1.0, tiny], [1.0, 2.0, 1.0 + step, 0.0]]
        options = given(compute_dtype=compute, stabilize=False, show=True)
        topic.step(f"mean-by-way-of-float32-{compute}", "2.3 4.2", zeros("float32", 2, 4), f32(above), **options)


def _add_none(topic: Topic) -> None:
    """Use compute dtype none: the dtype of the parameter, but float32 for bfloat16 with noise."""
    param, grad = row(4, start=0.9, factor=-1.3), row(4, start=0.7, factor=-0.83)
    for dtype in FORMATS:
        options = given(lr=0.07, weight_decay=0.3, compute_dtype=None)
        topic.step(f"none-{dtype}", "2.5", array(dtype, param), array(dtype, grad), **options)
        topic.step(f"none-{dtype}-matrix", "2.5", array(dtype, [param, grad]), array(dtype, [grad, param]), **options)
    noise = [0x8000, 0x1234, 0xFFFF, 0x0000]
    options = given(lr=0.07, weight_decay=0.3, compute_dtype=None, noise=noise)
    topic.step("none-bfloat16-with-noise", "2.5 8.1", bf16(param), bf16(grad), **options)
    # Each word of noise carries only because x is rounded to float32 first; float64 would not carry everywhere.
    param12 = [-1.0, 0.97, -0.85, -1.32, 1.22, -1.17, -0.55, -1.68, -1.44, -1.8, -1.07, 0.8]
    grad12 = [-1.32, 2.17, -2.27, 1.31, 1.68, 0.23, 2.91, 0.98, -0.89, 2.64, 1.03, 1.65]
    words = "05de 11b5 b03c fb1d 2ec4 31f3 c2a6 babe 3314 fbd8 749e 4151"
    arrays = (bf16([values[i : i + 4] for i in (0, 4, 8)]) for values in (param12, grad12))
    options = given(lr=0.37, weight_decay=0.3, compute_dtype=None, noise=[int(word, 16) for word in words.split()])
    topic.step("none-bfloat16-is-float32", "2.5 8.1", *arrays, **options)
    params, grads = [param, row(4, start=0.2, factor=1.9)], [row(4, start=1.9, factor=1.21), row(4, start=-1.9)]
    topic.step("none-of-param-not-of-grad", "2.5", f32(params), f64(grads), lr=0.9, compute_dtype=None)
    topic.step("none-of-param-not-of-grad-fp16", "2.5", f16(params), f32(grads), lr=0.9, compute_dtype=None)


def _add_mixed(topic: Topic) -> None:
    """Use gradients and parameters of different dtypes."""
    param, grad = row(3, start=0.9, factor=-1.3), row(3, start=0.7, factor=-0.83)
    topic.step("float64-grad-in-fp32", "1.1 2.6", f32(param), f64(grad), lr=0.1, compute_dtype="fp32")
    topic.step("grad-overflows-fp32", "2.6", f32([1.0, 2.0]), f64([1e300, 1.0]), lr=0.5, compute_dtype="fp32")
    topic.step("grad-overflows-fp16", "2.6", f32([1.0, 2.0]), f32([65520.0, 1.0]), lr=0.5, compute_dtype="fp16")


def _add_float64(topic: Topic) -> None:
    """Reach results that need float64, stored in float32 and in float64."""
    grad = [[1.0, 1.0 + 2**-20, 1.0 - 2**-21], [1.0, 1.0 + 2**-22, 1.0 + 3 * 2**-23]]
    topic.step("float64-of-float32", "2.1 12.2", zeros("float32", 2, 3), f32(grad), flags="float64", show=True)
    tiny = [[1.0, 1.0 + 2**-40], [1.0, 1.0 + 2**-45]]
    topic.step("float64-of-float64", "2.1 12.2", zeros("float64", 2, 2), f64(tiny), flags="float64", show=True)
    topic.step("float64-result", "6.3 12.2", f64([1.0, 2.0]), f64([0.3, -0.7]), lr=1e-12, flags="float64")


def _add_subnormals(topic: Topic) -> None:
    """Store float32 subnormals, with float64 operations and with float32 operations."""
    grad = f32([["00000001", "00000003"], ["80000002", "00000007"]])
    param = f32([["00000005", "80000009"], ["00400000", "007fffff"]])
    options = given(flags="subnormal", show=True)
    topic.step("subnormal-grad", "1.5 12.3", zeros("float32", 2, 2), grad, **options)
    topic.step("subnormal-param", "1.5 12.3", param, f32([[0.0, 1.0], [2.0, 0.5]]), lr=2.0**-147, **options)
    topic.step("subnormal-both", "1.5 12.3", param, grad, lr=2.0**-148, **options)
    topic.step("subnormal-rank-0", "6.2 12.3", f32("00000003"), f32("80000001"), lr=2.0**-149, flags="subnormal")
    topic.step("subnormal-float64", "1.5", zeros("float64", 2), f64(["0000000000000001", "8000000000000003"]))
    topic.step("subnormal-in-fp32", "1.5 2.2", zeros("float32", 2, 2), grad, compute_dtype="fp32")
    grad16 = f16([["0001", "0003"], ["8002", "03ff"]])
    topic.step("subnormal-in-fp16", "1.5 2.2", zeros("float16", 2, 2), grad16, compute_dtype="fp16", show=True)
    topic.step("subnormal-in-bf16", "1.5 2.2", zeros("bfloat16", 2), bf16(["0001", "8003"]), compute_dtype="bf16")
