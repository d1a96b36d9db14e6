"""The kinds of ports: a Python function, a PyTorch optimizer, and a program in any language."""

from rose_spec.ports.port import HarnessError, Port, ProtocolError, TrajectoryPort

__all__ = ["HarnessError", "Port", "ProtocolError", "TrajectoryPort"]
