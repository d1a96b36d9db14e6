"""Callbacks for the frameworks that train PyTorch models; each module imports the framework it is named for."""

__all__: list[str] = []
