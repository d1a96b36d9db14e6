"""Rose for PyTorch, a drop-in for `rose_opt.Rose`."""

from rose_torch.attach import AttachedRose, attach
from rose_torch.diagnosis import diagnose
from rose_torch.optimizer import Rose
from rose_torch.state import upstream_state_dict

__all__ = ["AttachedRose", "Rose", "attach", "diagnose", "upstream_state_dict"]
