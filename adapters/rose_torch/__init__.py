"""Rose for PyTorch, a drop-in for `rose_opt.Rose`, and an optimizer for the rules of `rose_core.peers`."""

from rose_torch.attach import AttachedRose, attach
from rose_torch.diagnosis import diagnose
from rose_torch.optimizer import Rose
from rose_torch.rules import Optimizer
from rose_torch.state import upstream_state_dict

__all__ = ["AttachedRose", "Optimizer", "Rose", "attach", "diagnose", "upstream_state_dict"]
