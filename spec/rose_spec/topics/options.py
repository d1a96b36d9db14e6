"""The spellings of options (ROSE-10.1, ROSE-10.2), and the steps that must be refused (ROSE-10.4, ROSE-11)."""

import math
from itertools import product

from rose_spec.topics.topic import Topic, array, bf16, f16, f32, f64, given, row, zeros

__all__ = ["build_names", "build_refusals"]

NAMES = {
    "fp64": ("float64", "FP64", "Float64", " fp64 "),
    "fp32": ("float32", "FP32", "Float32", " fp32"),
    "fp16": ("float16", "FP16", "FLOAT16", "fp16  "),
    "bf16": ("bfloat16", "BF16", "BFloat16", "\tbf16"),
    "none": ("None", "null", "NULL", " none "),
}


def build_names() -> Topic:
    """Return the topic of names."""
    topic = Topic(
        "names",
        "Names of compute dtypes: all spellings of a name give the same result",
        blanks="The name has surrounding blanks.",
    )
    arrays = f32(row(4, start=0.9)), f32(row(4, start=0.7, factor=-0.83))
    for label, spelling in (("space", "  fp16 "), ("tab", "\tfp16\t"), ("line-feed", "\nfp16"), ("return", "fp16\r\n")):
        topic.step(f"{label}-around", "10.2", *arrays, lr=0.3, compute_dtype=spelling, flags="blanks")
    for compute, spellings in NAMES.items():
        # float16 for none, which stands for the dtype of the parameter.
        dtype = "float16" if compute == "none" else "float32"
        param, grad = array(dtype, row(4, start=0.9)), array(dtype, row(4, start=0.7, factor=-0.83))
        for spelling in (compute, *spellings):
            clauses = "10.1" if spelling.islower() and spelling == spelling.strip() else "10.1 10.2"
            flags = "" if spelling == spelling.strip() else "blanks"
            name = spelling.strip() + ("-blanks" if flags else "")
            topic.step(name, clauses, param, grad, lr=0.07, compute_dtype=spelling, flags=flags)
    return topic


def build_refusals() -> Topic:
    """Return the topic of refusals."""
    topic = Topic("refusals", "Options and shapes that must be refused")
    _add_numbers(topic)
    _add_missing(topic)
    _add_names(topic)
    _add_shapes(topic)
    _add_noise(topic)
    return topic


def _add_numbers(topic: Topic) -> None:
    """Refuse NaN, infinities and negative numbers."""
    wrong = (("nan", math.nan), ("infinite", math.inf), ("minus-infinite", -math.inf), ("negative", -1e-3))
    for name, value in wrong:
        arrays = f32([1.0, 2.0]), f32([0.5, -1.0])
        topic.refusal(f"lr-{name}", "10.1 11.1 11.3", *arrays, lr=value)
        topic.refusal(f"weight-decay-{name}", "10.1 11.1 11.3", *arrays, lr=0.1, weight_decay=value)
        topic.refusal(f"lr-reference-{name}", "10.1 11.1", *arrays, lr=0.1, lr_reference=value)
    arrays = f32([1.0, 2.0]), f32([0.5, -1.0])
    topic.refusal("lr-reference-zero", "10.1 11.1", *arrays, lr=0.1, lr_reference=0.0)
    for name, value in (("zero", 0.0), ("negative", -1.0), ("nan", math.nan)):
        topic.refusal(f"max-step-{name}", "10.1 11.1", *arrays, lr=0.1, max_step=value)
    topic.refusal("lr-nan-rank-0", "11.1", f32(1.0), f32(0.5), lr=math.nan)
    topic.refusal("lr-nan-matrix", "11.1", f32([[1.0]]), f32([[0.5]]), lr=math.nan)
    topic.refusal("lr-least-negative", "11.1", *arrays, lr=-5e-324)
    # Refuse the option even if it would have no effect.
    still = zeros("float32", 0), zeros("float32", 0)
    topic.refusal("lr-nan-empty", "11.1", *still, lr=math.nan)
    topic.refusal("weight-decay-nan-lr-zero", "11.1", *arrays, lr=0.0, weight_decay=math.nan)


def _add_missing(topic: Topic) -> None:
    """Refuse a step without lr, which has no default."""
    topic.refusal("lr-missing", "10.1 11.1", f32([1.0, 2.0]), f32([0.5, -1.0]))
    topic.refusal("lr-missing-rank-0", "10.1 11.1", f32(1.0), f32(0.5), weight_decay=0.0)
    topic.refusal("lr-missing-matrix", "10.1 11.1", f32([[1.0, 2.0]]), f32([[0.5, -1.0]]), compute_dtype="fp32")


def _add_names(topic: Topic) -> None:
    """Refuse unknown names of compute dtypes."""
    arrays = f64([1.0, 2.0]), f64([0.5, -1.0])
    for name in ("fp8", "float", "double", "half", "int32", "float128", "fp 32", ""):
        label = name.replace(" ", "-") or "empty"
        topic.refusal(f"compute-dtype-{label}", "10.1 11.1", *arrays, lr=0.1, compute_dtype=name)


def _add_shapes(topic: Topic) -> None:
    """Refuse shapes that differ, even if they broadcast or have the same size."""
    pairs = (
        ("longer", zeros("float32", 2), f32([1.0, 2.0, 3.0])),
        ("transposed", zeros("float32", 2, 3), f32([row(2), row(2), row(2)])),
        ("flattened", zeros("float32", 2, 2), f32(row(4))),
        ("broadcast-row", zeros("float32", 2, 2), f32([row(2)])),
        ("broadcast-scalar", zeros("float32", 2), f32(1.0)),
        ("scalar-for-one", f32([1.0]), f32(1.0)),
        ("one-for-scalar", f32(1.0), f32([1.0])),
        ("empty", zeros("float32", 0), zeros("float32", 0, 1)),
        ("trailing-one", zeros("float32", 3), f32([[1.0], [2.0], [3.0]])),
    )
    for name, param, grad in pairs:
        topic.refusal(f"shape-{name}", "11.2 11.3 1.1", param, grad, lr=0.1)


def _add_noise(topic: Topic) -> None:
    """Refuse stochastic rounding with a 16-bit compute dtype, which leaves nothing to round."""
    for compute in ("fp16", "bf16", "float16", "BF16"):
        options = given(lr=0.1, compute_dtype=compute, noise=[0x8000, 0x1234])
        topic.refusal(f"stochastic-beside-{compute}", "10.4", bf16([1.0, 2.0]), bf16([0.5, -1.0]), **options)
    arrays = bf16(1.0), f16(0.5)
    topic.refusal("stochastic-beside-fp16-rank-0", "10.4", *arrays, lr=0.1, compute_dtype="fp16", noise=[0])
    # The dtype of the parameter does not matter for a 16-bit compute dtype.
    for dtype, compute in product(("float64", "float32", "float16"), ("fp16", "bf16")):
        arrays = array(dtype, [1.0, 2.0]), array(dtype, [0.5, -1.0])
        options = given(lr=0.1, compute_dtype=compute, noise=[0x8000, 0x1234])
        topic.refusal(f"stochastic-beside-{compute}-{dtype}", "10.4", *arrays, **options)
    # Noise is for bfloat16 parameters only, even if the gradient is bfloat16.
    for dtype, compute in (("float64", "fp64"), ("float32", "fp64"), ("float32", "fp32"), ("float16", "fp32")):
        options = given(lr=0.1, compute_dtype=compute, noise=[0x8000, 0x1234])
        topic.refusal(f"noise-of-{dtype}-in-{compute}", "8.4", array(dtype, [1.0, 2.0]), bf16([0.5, -1.0]), **options)
    for dtype in ("float32", "float16"):
        options = given(lr=0.1, compute_dtype=None, noise=[0x8000, 0x1234])
        topic.refusal(f"noise-of-{dtype}-in-none", "8.4", array(dtype, [1.0, 2.0]), f32([0.5, -1.0]), **options)
