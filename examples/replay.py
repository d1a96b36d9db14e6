"""Replay recorded gradients on every installed array library, and compare the bits of the final parameters.

The last bits of a matrix product may differ between libraries, so the same training on two libraries drifts apart.
The optimizer does not add to that. Given the same parameters and the same gradients, Rose computes the same new
parameters on every library, so the final parameters have the same hash.
"""

import hashlib
from dataclasses import dataclass, field

import numpy as np
from backends import BACKENDS, Backend, MissingBackendError, open_backend
from tqdm import tqdm

__all__ = ["Parameters", "Recording", "digest", "replay", "replay_everywhere", "report"]

Parameters = dict[str, np.ndarray]


@dataclass
class Recording:
    """The inputs of the optimizer in a training run, and the final parameters. Arrays are host arrays.

    Attributes
    ----------
    backend : the name of the backend that trained.
    seed : the seed of the stochastic rounding.
    initial, final : the parameters before the first step and after the last step.
    learning_rates : the learning rate of each step.
    gradients : the gradients of each step, in the dtype of the parameters.
    losses : the loss before each step. A replay does not use it.
    """

    backend: str
    seed: int
    initial: Parameters
    final: Parameters = field(default_factory=dict)
    learning_rates: list[float] = field(default_factory=list)
    gradients: list[Parameters] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @property
    def dtype(self) -> str:
        """The name of the dtype of the parameters."""
        return str(next(iter(self.initial.values())).dtype)

    @property
    def size(self) -> int:
        """The number of elements of all parameters."""
        return sum(value.size for value in self.initial.values())


def replay(recording: Recording, backend: Backend) -> Parameters:
    """Return the final parameters of a run of Rose on the backend, with the recorded gradients."""
    parameters = {name: backend.array(value) for name, value in recording.initial.items()}
    optimizer = backend.rose(parameters, recording.learning_rates[0], sr_seed=recording.seed)
    steps = zip(recording.learning_rates, recording.gradients, strict=True)
    for lr, gradients in tqdm(steps, f"replay on {backend.name}", total=len(recording.gradients), leave=False):
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step({name: backend.array(value) for name, value in gradients.items()})
    return {name: backend.host(value) for name, value in parameters.items()}


def digest(parameters: Parameters) -> str:
    """Return the SHA-224 of the names and the little-endian values of all parameters, in order."""
    sha = hashlib.sha224()
    for name, value in parameters.items():
        # If the training diverges, the sign and the payload of a NaN may differ between libraries (ROSE-12.1).
        canonical = np.where(np.isnan(value), np.asarray(np.nan, value.dtype), value)
        bits = 8 * value.dtype.itemsize
        sha.update(name.encode())
        sha.update(canonical.view(f"uint{bits}").astype(f"<u{bits // 8}").tobytes())
    return sha.hexdigest()


def replay_everywhere(recording: Recording) -> tuple[dict[str, str], dict[str, str]]:
    """Return the digest of the replay on each backend, and the reason for each backend that cannot run."""
    digests, reasons = {}, {}
    for name in BACKENDS:
        try:
            backend = open_backend(name)
            if recording.dtype == "bfloat16" and not backend.has_bfloat16:
                raise MissingBackendError("the library has no bfloat16")
        except MissingBackendError as reason:  # noqa: PERF203  (a loop over five backends)
            reasons[name] = str(reason)
        else:
            digests[name] = digest(replay(recording, backend))
    return digests, reasons


def report(recording: Recording, digests: dict[str, str], reasons: dict[str, str]) -> bool:
    """Print the hash of each backend and the verdict, and return whether all hashes are equal."""
    steps = len(recording.gradients)
    print(f"replayed {steps:,} steps of recorded gradients ({recording.size:,} parameters, {recording.dtype})")
    trained = digest(recording.final)
    for name, text in {f"training on {recording.backend}": trained, **digests}.items():
        print(f"  {name:<19}{text}")
    for name, reason in reasons.items():
        print(f"  {name:<19}not run: {reason}")
    distinct = {trained, *digests.values()}
    backends = f"{len(digests)} backend{'' if len(digests) == 1 else 's'}"
    if len(distinct) == 1:
        print(f"identical: one hash on {backends}")
    else:
        print(f"DIFFERENT: {len(distinct)} hashes on {backends}; please report this as a defect")
    return len(distinct) == 1
