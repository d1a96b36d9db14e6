"""The matrix rules that the tests run, each with the options that they run with."""

from typing import Any, Final

from rose_core import peers
from rose_core.peers import Rule

__all__ = ["MATRIX_RULES", "MATRIX_VARIANTS"]

MATRIX_RULES: Final[dict[str, Rule]] = {
    "Muon": peers.Muon(),
}
"""One instance of each rule, by name."""

MATRIX_VARIANTS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "Muon, momentum": ("Muon", {"momentum": 0.5}),
    "Muon, heavy ball": ("Muon", {"momentum_kind": "heavy_ball", "nesterov": True}),
    "Muon, Nesterov": ("Muon", {"nesterov": True}),
    **{
        f"Muon, {name}": ("Muon", {"coefficient_set": name})
        for name in ("simple", "polar_express", "cans", "deepseekv4", "cubic5")
    },
    "Muon, aol": ("Muon", {"coefficient_set": "aol", "steps": 4}),
    "Muon, custom": ("Muon", {"coefficient_set": "custom", "custom_coefficients": ((1.5, -0.5, 0.0),)}),
    "Muon, steps": ("Muon", {"steps": 10}),
    "Muon, shape_scaling": ("Muon", {"scale": "shape_scaling"}),
    "Muon, unit_rms": ("Muon", {"scale": "unit_rms"}),
    "Muon, extra_scale": ("Muon", {"extra_scale": 0.2}),
    "Muon, eps": ("Muon", {"eps": 1e3}),
    "Muon, output_axis": ("Muon", {"output_axis": 1, "scale": "unit_rms"}),
}
"""Options that change the result of a rule of `MATRIX_RULES`: one for each option, by a name of the case."""
