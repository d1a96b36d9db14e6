"""Several steps of several groups (ROSE-3.4, ROSE-8.4, ROSE-9.2)."""

from collections.abc import Sequence
from typing import TypeAlias

from rose_spec.noise import threefry2x32
from rose_spec.oracle import Tensor
from rose_spec.topics.topic import Topic, array, bf16, f32, group

__all__ = ["build"]

# The learning rate and the gradients of each group, for each step.
Steps: TypeAlias = list[tuple[list[float], list[list[Tensor | None]]]]

# The lr of each step, with a warm-up and a decay.
WARM_UP = (0.02, 0.04, 0.06, 0.04, 0.02)
STARTING_AT_ZERO = (0.0, 0.0, 0.02, 0.04, 0.0, 0.03, 0.01)


def build() -> Topic:
    """Return the topic."""
    topic = Topic(
        "trajectories",
        "Several steps: groups, schedules, skipped gradients, portable noise",
        skipped="A parameter has no gradient at a step.",
        integer="wd_schedule is an integer, which a port must not take as a boolean.",
    )
    _add_plain(topic)
    _add_schedules(topic)
    _add_skipped(topic)
    _add_noise(topic)
    _add_groups(topic)
    return topic


def _values(dtype: str, shape: Sequence[int], number: int) -> Tensor:
    """Return values in (-2, 2) that depend on the number."""
    count = len(array(dtype, [0.0]).values)
    for length in shape:
        count *= length
    words = [threefry2x32((number, 0), (i, 0))[0] for i in range(count)]
    return Tensor(dtype, tuple(shape), array(dtype, [word * 2.0**-30 - 2.0 for word in words]).values)


def _steps(rates: Sequence[float], *params: Tensor, dtype: str = "") -> Steps:
    """Return steps of one group, with a gradient for every parameter."""
    return [
        ([lr], [[_values(dtype or p.dtype, p.shape, 100 * step + i) for i, p in enumerate(params)]])
        for step, lr in enumerate(rates, 1)
    ]


def _add_plain(topic: Topic) -> None:
    """Use one group of every dtype and rank."""
    for dtype in ("float64", "float32", "float16"):
        params = [_values(dtype, shape, i) for i, shape in enumerate([(), (3,), (2, 3), (2, 1, 2)])]
        steps = _steps(WARM_UP, *params)
        topic.trajectory(f"plain-{dtype}", "3.3 6.1 6.2", [group(*params, lr=0.02, weight_decay=0.1)], steps)
    param = _values("bfloat16", (2, 4), 7)
    settings = group(param, lr=0.1, weight_decay=0.01, bf16_sr=False)
    topic.trajectory("nearest-bfloat16", "8.3", [settings], _steps([0.1, 0.03, 0.01, 0.003] * 2, param))
    settings = group(param, lr=0.1, weight_decay=0.0, bf16_sr=False, compute_dtype="bf16")
    topic.trajectory("computed-in-bf16", "2.2 10.4", [settings], _steps([0.1, 0.03, 0.01], param))
    wide = _values("float32", (3, 4), 8)
    settings = group(wide, lr=0.1, weight_decay=0.1, stabilize=False)
    topic.trajectory("not-stabilized", "5.1", [settings], _steps([0.1, 0.03, 0.01], wide))
    # bf16_sr is allowed beside none, and has no effect on float16.
    short = _values("float16", (2, 4), 7)
    settings = group(short, lr=0.1, weight_decay=0.01, bf16_sr=True, compute_dtype=None)
    topic.trajectory("float16-computed-in-none", "10.4 2.5 8.4", [settings], _steps([0.1, 0.03, 0.01], short))
    settings = group(short, param, lr=0.1, weight_decay=0.01, compute_dtype=None)
    topic.trajectory("both-16-bit-dtypes-computed-in-none", "10.4 2.5", [settings], _steps([0.1, 0.03], short, param))
    settings = group(param, lr=0.1, weight_decay=0.0, maximize=True, bf16_sr=False, centralize=False)
    topic.trajectory("maximized", "1.3", [settings], _steps([0.1, 0.03, 0.01], param))
    settings = group(param, lr=0.1, weight_decay=0.0, max_step=0.25, bf16_sr=False)
    topic.trajectory("limited", "6.4", [settings], _steps([0.1, 0.03, 0.01], param))


def _add_schedules(topic: Topic) -> None:
    """Use a number, max_lr, initial_lr, or the first lr that is not 0 as the reference."""
    params = [_values("float32", (2, 2), 1), _values("float32", (3,), 2)]

    def add(name: str, clauses: str, rates: Sequence[float], flags: str = "", **options: object) -> None:
        settings = group(*params, **{"lr": rates[0], "weight_decay": 0.3, **options})  # type: ignore[arg-type]
        topic.trajectory(f"schedule-{name}", clauses, [settings], _steps(rates, *params), flags=flags)

    add("off", "3.3", WARM_UP, wd_schedule=False, initial_lr=0.05, max_lr=0.07)
    add("number", "3.4", WARM_UP, wd_schedule=0.06)
    add("number-over-max-lr", "3.4", WARM_UP, wd_schedule=0.06, initial_lr=0.05, max_lr=0.07)
    add("true-records-first-lr", "3.4", WARM_UP, wd_schedule=True)
    add("true-records-first-lr-not-zero", "3.4", STARTING_AT_ZERO, wd_schedule=True)
    add("true-initial-lr", "3.4", WARM_UP, wd_schedule=True, initial_lr=0.05)
    add("true-initial-lr-zero", "3.4", STARTING_AT_ZERO, wd_schedule=True, initial_lr=0.0)
    add("true-max-lr", "3.4", WARM_UP, wd_schedule=True, max_lr=0.06)
    add("true-max-lr-before-initial-lr", "3.4", WARM_UP, wd_schedule=True, max_lr=0.06, initial_lr=0.002)
    add("true-max-lr-zero", "3.4", WARM_UP, wd_schedule=True, max_lr=0.0, initial_lr=0.05)
    add("true-clamped", "3.2 3.4", (0.01, 0.1, 0.01), wd_schedule=True)
    add("true-without-decay", "3.1 3.4", WARM_UP, wd_schedule=True, weight_decay=None)
    add("integer-one", "10.3 3.4", WARM_UP, flags="integer", wd_schedule=1)
    add("integer-two", "10.3 3.4", WARM_UP, flags="integer", wd_schedule=2, initial_lr=0.02)
    add("float-one", "3.4", WARM_UP, wd_schedule=1.0)
    add("default-weight-decay", "3.4 10.1", (1e-3, 5e-4, 1e-4), wd_schedule=True, weight_decay=1e-4)


def _add_skipped(topic: Topic) -> None:
    """Skip a parameter without a gradient, which is not decayed either."""
    params = [_values("float32", (2, 2), 1), _values("float32", (2,), 2), _values("float32", (), 3)]
    steps = _steps(WARM_UP, *params)
    for number, (_, grads) in enumerate(steps):
        grads[0][number % 3] = None
    settings = group(*params, lr=0.02, weight_decay=0.5)
    topic.trajectory("skipped", "3.1 11.3", [settings], steps, flags="skipped")
    none = [([lr], [[None, grads[0][1], None]]) for (lr,), grads in _steps(WARM_UP, *params)]
    topic.trajectory("never-a-gradient", "3.1", [group(*params, lr=0.02, weight_decay=0.5)], none, flags="skipped")
    # The first step records initial_lr although no parameter has a gradient.
    late: Steps = [([0.08], [[None, None, None]]), *_steps(WARM_UP[1:], *params)]
    settings = group(*params, lr=0.08, weight_decay=0.5, wd_schedule=True)
    topic.trajectory("skipped-by-all-at-first", "3.4", [settings], late, flags="skipped")


def _add_noise(topic: Topic) -> None:
    """Vary the seed, the step and the index of the noise of bfloat16 parameters."""
    params = [_values("bfloat16", (2, 5), 1), _values("bfloat16", (7,), 2), _values("bfloat16", (), 3)]
    rates = (0.01, 0.02, 0.01, 0.005, 0.004, 0.003)
    for seed in (0, 1, 0x0123456789ABCDEF, 2**64 - 1):
        settings = group(*params, lr=0.01, weight_decay=0.1, sr_seed=f"{seed:016x}")
        topic.trajectory(f"noise-seed-{seed:x}", "9.2 8.1", [settings], _steps(rates, *params))
    # The gradients are float32, and steps with lr = 0 do not count.
    settings = group(*params, lr=0.01, sr_seed="0000000000000007")
    topic.trajectory("noise-lr-zero", "9.2", [settings], _steps(STARTING_AT_ZERO, *params, dtype="float32"))
    # The float32 parameters count for the index, but are not rounded stochastically. Skipped parameters count too.
    mixed = [_values("float32", (3,), 4), params[0], _values("float32", (2, 2), 5), params[1]]
    settings = group(*mixed, lr=0.01, sr_seed="0000000000000007")
    topic.trajectory("noise-among-others", "9.2 8.4", [settings], _steps(rates, *mixed))
    steps = _steps(rates, *params)
    for number, (_, grads) in enumerate(steps):
        grads[0][number % 2] = None
    settings = group(*params, lr=0.01, sr_seed="0000000000000007")
    topic.trajectory("noise-skipped", "9.2", [settings], steps, flags="skipped")
    for compute in ("fp32", None):
        settings = group(*params, lr=0.01, compute_dtype=compute)
        name = f"noise-computed-in-{compute or 'none'}"
        topic.trajectory(name, "2.5 8.1" if compute is None else "8.1", [settings], _steps(rates, *params))


def _add_groups(topic: Topic) -> None:
    """Use groups with different options, schedules and step counts; their indices continue from group to group."""
    first = group(
        bf16([[0.5, -1.25], [3.0, 0.125]]),
        f32([1.0, -2.0]),
        lr=0.02,
        weight_decay=0.2,
        wd_schedule=True,
        sr_seed=f"{42:016x}",
    )
    second = group(
        bf16([1.5, -0.75, 0.25]),
        bf16([[2.0, -2.0, 0.5]]),
        lr=0.1,
        weight_decay=0.0,
        sr_seed=f"{43:016x}",
        stabilize=False,
    )
    steps = []
    for step, rates in enumerate(((0.02, 0.1), (0.0, 0.05), (0.03, 0.0), (0.01, 0.02), (0.02, 0.01)), 1):
        grads = [_values("bfloat16", (2, 2), step), _values("float32", (2,), 10 + step)]
        others = [_values("bfloat16", (3,), 20 + step), _values("float32", (1, 3), 30 + step)]
        steps.append((rates, [grads, others]))
    topic.trajectory("two-groups", "3.4 9.2", [first, second], steps)
    seeds = [group(bf16([[0.5, -1.25]]), lr=0.02) for _ in range(3)]
    same = [((0.02, 0.02, 0.02), [[bf16([[1.0, 0.25]])]] * 3) for _ in range(6)]
    topic.trajectory("same-parameter-in-three-groups", "9.2", seeds, same)
