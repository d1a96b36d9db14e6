"""A callback for the Trainer of Lightning."""

from typing import Any

try:
    from lightning.pytorch.callbacks import Callback
except ImportError as error:
    raise ImportError("rose_torch.callbacks.lightning needs Lightning: pip install lightning") from error

from rose_torch.callbacks.cadence import checked_cadence
from rose_torch.diagnosis import diagnose
from rose_torch.optimizer import Rose

__all__ = ["DiagnosisCallback"]


class DiagnosisCallback(Callback):
    """Logs the diagnosis of the next step at the first step, and then every `every_n_steps` steps.

    Parameters
    ----------
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
    Every logger of the trainer receives the numbers, independent of its `log_every_n_steps`. They describe the
    gradients before the trainer clips them. With several optimizers, each Rose is diagnosed by its own step count.

    Examples
    --------
    ``Trainer(callbacks=[DiagnosisCallback(every_n_steps=100)])``
    """

    def __init__(self, *, every_n_steps: int = 100) -> None:
        self._every = checked_cadence(every_n_steps)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Log, with the gradients complete and the parameters as they were."""
        if isinstance(optimizer, Rose) and optimizer.param_groups[0]["step"] % self._every == 0:
            scalars = diagnose(optimizer, pl_module).scalars()
            for logger in trainer.loggers:
                logger.log_metrics(scalars, step=trainer.global_step)
