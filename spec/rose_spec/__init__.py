"""The conformance kit of Rose: vectors, an independent oracle, and a runner for ports in any language."""

__all__: list[str] = []
