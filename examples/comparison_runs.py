"""The rules of `compare_rules.py`, the sweep of their options, and the measurements of a run."""

import math
import time
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any, Final, NamedTuple

import numpy as np
from comparison_tasks import TASKS, Score

from rose_core import peers
from rose_core.peers import AdamW, Partition, Rule, ScheduleFree
from rose_core.schedules import linear_warmup, set_lr, warmup_cosine

__all__ = ["DECAYS", "RULES", "Outcome", "Run", "compare", "run"]

# Each rule, and the power of 10 at which the sweep of its learning rate begins. Muon's scale 0.2 suits the learning
# rates of AdamW. The decay of LAMB is an option of the rule.
RULES: Final[dict[str, tuple[Rule, int]]] = {
    "Rose": (peers.Rose(), -1),
    "SGD with momentum": (peers.SGD(momentum=0.9), -1),
    "AdamW": (AdamW(), -2),
    "Lion": (peers.Lion(), -3),
    "Signum": (peers.Signum(), -3),
    "LaProp": (peers.LaProp(), -2),
    "AdEMAMix": (peers.AdEMAMix(), -2),
    "QHAdamW": (peers.QHAdamW(), -2),
    "MAdam": (peers.MAdam(), -2),
    "LAMB": (peers.LAMB(), -2),
    "Adafactor": (peers.Adafactor(scale_parameter=False, step_size="constant"), -2),
    "schedule-free AdamW": (ScheduleFree(AdamW(betas=(0.0, 0.999))), -2),
    "Muon and AdamW": (Partition(peers.Muon(nesterov=True, extra_scale=0.2), AdamW()), -2),
    "SOAP and AdamW": (Partition(peers.SOAP(max_size=64), AdamW()), -2),
    "Kron and AdamW": (Partition(peers.Kron(), AdamW()), -2),
}
DECAYS: Final = (0.1, 0.0)
EVALUATIONS: Final = 15  # in a run


class Run(NamedTuple):
    """The scores after some steps, the median time of a step in ms, and the bytes of state a parameter."""

    scores: dict[int, Score]
    milliseconds: float
    state_bytes: float

    @property
    def final(self) -> Score:
        """The score after the last step."""
        return self.scores[max(self.scores)]


class Outcome(NamedTuple):
    """The best options of a rule on a task, and the runs with them."""

    task: str
    rule: str
    lr: float
    weight_decay: float
    runs: list[Run]

    @property
    def losses(self) -> list[float]:
        """The final losses in ascending order, infinite if a run has diverged."""
        return sorted(run.final.loss if math.isfinite(run.final.loss) else math.inf for run in self.runs)


def compare(steps: int, sizes: tuple[int, int], seeds: int, job: tuple[str, str]) -> Outcome:
    """Sweep the learning rate and then the weight decay with seed 0, and run the best with other seeds."""
    task, name = job
    rule, power = RULES[name]
    tried: dict[tuple[float, float], float] = {}

    def loss(half_power: int, weight_decay: float = DECAYS[0]) -> float:
        lr = rounded(10 ** (half_power / 2))
        if (lr, weight_decay) not in tried:
            final = run(task, rule, steps, sizes, 0, lr, weight_decay).final.loss
            tried[lr, weight_decay] = final if math.isfinite(final) else math.inf
        return tried[lr, weight_decay]

    best = 2 * power  # in half powers of 10
    while (better := min((best, best - 1, best + 1), key=loss)) != best:
        best = better
    lr, weight_decay = rounded(10 ** (best / 2)), min(DECAYS, key=partial(loss, best))
    runs = [run(task, rule, steps, sizes, seed, lr, weight_decay) for seed in range(1, seeds + 1)]
    return Outcome(task, name, lr, weight_decay, runs)


def rounded(lr: float) -> float:
    """Return a learning rate with one digit."""
    return float(f"{lr:.0e}")


def run(task: str, rule: Rule, steps: int, sizes: tuple[int, int], seed: int, lr: float, weight_decay: float) -> Run:
    """Train with a warmup and a cosine. A schedule-free rule has the warmup only."""
    if isinstance(rule, peers.LAMB):
        rule, weight_decay = replace(rule, weight_decay=weight_decay), 0.0
    schedule: Any = partial(warmup_cosine, steps=steps) if not isinstance(rule, ScheduleFree) else linear_warmup
    optimizer, gradients, evaluate = TASKS[task](rule, sizes, seed, lr=lr, weight_decay=weight_decay)
    scores, seconds = {}, []
    with np.errstate(all="ignore"):  # large learning rates overflow
        for step in range(steps):
            set_lr(optimizer.param_groups, schedule(step, max_lr=lr, warmup_steps=steps // 10), max_lr=lr)
            grads = next(gradients)
            start = time.thread_time()  # other programs do not disturb it
            optimizer.step(grads)
            seconds.append(time.thread_time() - start)
            if (step + 1) % max(1, steps // EVALUATIONS) == 0 or step + 1 == steps:
                scores[step + 1] = evaluate()
    arrays = [x for state in optimizer.state_dict()["state"].values() for key, x in state.items() if key != "step"]
    params = sum(math.prod(param.shape) for group in optimizer.param_groups for param in group["params"])
    return Run(scores, 1e3 * median(seconds), sum(x.nbytes for x in arrays) / params)
