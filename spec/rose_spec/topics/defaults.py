"""Options that are left out (ROSE-10.1): for each, a vector fails if the port has another default."""

from typing import Any, Final

from rose_spec.topics.topic import Topic, bf16, f32, f64, given, group, row

__all__ = ["build"]

NOTES: Final[dict[str, Any]] = {
    "default-weight_decay": "weight_decay is left out: 1e-4.",
    "default-wd_schedule": "wd_schedule is left out: false.",
    "default-centralize": "centralize is left out: true.",
    "default-stabilize": "stabilize is left out: true.",
    "default-bf16_sr": "bf16_sr is left out: true.",
    "default-compute_dtype": "compute_dtype is left out: fp64.",
    "default-maximize": "maximize is left out: false.",
    "default-sr_seed": "sr_seed is left out: 0.",
    "default-max_step": "max_step is left out: none.",
}

GRAD = [[0.3, -0.7, 1.9], [2.2, 0.4, 1.1], [-5.0, 9.0, 30.0]]
PARAM = [[1.0, -2.0, 3.0], [0.5, 0.25, -4.0], [7.0, -0.1, 0.3]]


def build() -> Topic:
    """Return the topic."""
    topic = Topic("defaults", "Options that are left out, so that the port uses its defaults", **NOTES)
    _add_steps(topic)
    _add_all(topic)
    _add_groups(topic)
    return topic


def _add_steps(topic: Topic) -> None:
    """Leave out one option, and give the others."""
    param, grad = f64(PARAM), f64(GRAD)
    known: dict[str, Any] = {
        "lr": 0.5,
        "weight_decay": 0.0,
        "centralize": True,
        "stabilize": True,
        "compute_dtype": "fp64",
        "maximize": False,
    }
    # With float32 parameters, the compute dtypes fp32 and none give other bits than fp64.
    arrays = {"compute_dtype": (f32(PARAM), f32(GRAD))}
    for option in list(known)[1:]:
        others = {name: value for name, value in known.items() if name != option}
        flags = f"default-{option}"
        topic.bare_step(option, "10.1", *arrays.get(option, (param, grad)), flags=flags, show=True, **others)
    still = f64([1.0, 1e4, -3e-4]), f64([0.0] * 3)
    topic.bare_step("weight_decay-alone", "10.1", *still, flags="default-weight_decay", lr=1.0)
    topic.bare_step("weight_decay-small-lr", "10.1", *still, flags="default-weight_decay", lr=1e-3)
    # The last bit of the default changes the factor, which is near 0.1.
    topic.bare_step("weight_decay-large-lr", "10.1 3.2", *still, flags="default-weight_decay", lr=9000.0)
    vector = given(lr=0.5, weight_decay=0.0)
    options = "default-maximize default-centralize"
    topic.bare_step("vector", "10.1 4.2 1.3", f64([0.0] * 3), f64([1.0, 3.0, 2.0]), flags=options, **vector)
    steep = f64([0.0] * 3), f64([1.0, 1.0, 1.0001])
    topic.bare_step("max_step", "10.1 6.4", *steep, flags="default-max_step", **vector)
    wide = f32([[0.0, 0.0]]), f32([[3e38, -3e38]])
    topic.bare_step("compute_dtype-range", "10.1", *wide, flags="default-compute_dtype", **vector)
    narrow = bf16(row(4)), bf16(row(4, start=0.3, factor=-0.7))
    topic.bare_step("compute_dtype-bfloat16", "10.1", *narrow, flags="default-compute_dtype", **vector)


def _add_all(topic: Topic) -> None:
    """Give only the learning rate."""
    flags = "default-weight_decay default-centralize default-stabilize default-compute_dtype default-maximize"
    param, grad = PARAM, GRAD
    for lr in (1e-3, 0.3):
        name = str(lr).replace(".", "-")
        topic.bare_step(f"all-{name}-float64", "10.1", f64(param), f64(grad), flags=flags, lr=lr)
        topic.bare_step(f"all-{name}-float32", "10.1", f32(param), f32(grad), flags=flags, lr=lr)
        topic.bare_step(f"all-{name}-vector", "10.1", f32(param[0]), f32(grad[0]), flags=flags, lr=lr)
        topic.bare_step(f"all-{name}-rank-0", "10.1", f32(3.0), f32(-2.0), flags=flags, lr=lr)
    noise = [(0x1357 * i) % 0x10000 for i in range(9)]
    topic.bare_step("all-bfloat16", "10.1", bf16(param), bf16(grad), flags=flags, lr=0.01, noise=noise)
    topic.bare_step("all-bfloat16-nearest", "10.1", bf16(param), bf16(grad), flags=flags, lr=0.01)


def _add_groups(topic: Topic) -> None:
    """Leave out the options of groups: schedule, stochastic rounding, seed."""
    steps = [((lr,), [[f32([[0.5, 1.5], [-1.0, 4.0]])]]) for lr in (0.1, 0.05, 0.2)]
    settings = group(f32([[30.0, -20.0], [0.5, 1.0]]), initial_lr=0.1, lr=0.1, weight_decay=0.3)
    topic.trajectory("wd_schedule", "10.1 3.3", [settings], steps, flags="default-wd_schedule")
    narrow = [((0.01,), [[bf16([[0.5, 1.5], [-1.0, 4.0]])]])] * 4
    start = bf16([[3.0, -2.0], [0.5, 1.0]])
    settings = group(start, lr=0.01, weight_decay=0.0, sr_seed="0000000000000000")
    topic.trajectory("bf16_sr", "10.1 8.4", [settings], narrow, flags="default-bf16_sr")
    settings = group(start, lr=0.01, weight_decay=0.0, bf16_sr=True)
    topic.trajectory("sr_seed", "10.1 9.2", [settings], narrow, flags="default-sr_seed")
    flags = "default-wd_schedule default-bf16_sr default-sr_seed default-weight_decay"
    topic.trajectory("all-of-a-group", "10.1", [group(start, lr=0.01)], narrow, flags=flags)
