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
    """Logs what the next step would do to each parameter, every so many steps, the first one included.

    Parameters
    ----------
    every_n_steps : int
        From one such step to the next.

    Raises
    ------
    TypeError, ValueError
        If `every_n_steps` is not an integer of 1 or more.

    See Also
    --------
    rose_diagnosis.Diagnosis.scalars : the names and the numbers.

    Notes
    -----
    Every logger of the trainer gets them, whatever its `log_every_n_steps`. They are of the gradients before the
    trainer clips them. Of several optimizers each that is a Rose is looked at by its own count of steps.

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
