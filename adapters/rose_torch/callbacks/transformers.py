"""A callback for the Trainer of Hugging Face Transformers."""

from collections.abc import Callable
from typing import Any

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise ImportError("rose_torch.callbacks.transformers needs Transformers: pip install transformers") from error

from rose_torch.callbacks.cadence import checked_cadence
from rose_torch.diagnosis import diagnose

__all__ = ["DiagnosisCallback"]


class DiagnosisCallback(TrainerCallback):
    """Logs the diagnosis of the next step at the first step, and then every `every_n_steps` steps.

    Parameters
    ----------
    log : callable
        Takes a dict of str to float. The `log` of the trainer passes it on to every reporter.
    every_n_steps : int
        The number of steps from one diagnosis to the next.

    Raises
    ------
    TypeError, ValueError
        If `every_n_steps` is not an integer of 1 or more.

    See Also
    --------
    rose_diagnosis.Diagnosis.scalars : the names and the numbers.

    Notes
    -----
    The numbers describe the gradients after the trainer has clipped them.

    Examples
    --------
    ``trainer.add_callback(DiagnosisCallback(trainer.log, every_n_steps=100))``
    """

    def __init__(self, log: Callable[[dict[str, float]], Any], *, every_n_steps: int = 100) -> None:
        self._log, self._every = log, checked_cadence(every_n_steps)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Log, with the gradients complete and the parameters as they were."""
        if state.global_step % self._every == 0:
            self._log(diagnose(kwargs["optimizer"], kwargs["model"]).scalars())
