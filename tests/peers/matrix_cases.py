"""The matrix rules that the tests run, each with the options that they run with."""

from typing import Any, Final

from rose_core import peers
from rose_core.peers import Rule

__all__ = ["MATRIX_RULES", "MATRIX_VARIANTS"]

MATRIX_RULES: Final[dict[str, Rule]] = {
    "Muon": peers.Muon(),
    "PRISM": peers.PRISM(),
    "PRISM, bidirectional": peers.PRISM(mode="bidirectional"),
    "SOAP": peers.SOAP(precondition_frequency=3),
    "SOAP, by the authors": peers.SOAP(
        precondition_frequency=2, current_gradient=False, eps_added_to="uncorrected", betas=(0.9, 0.8)
    ),
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
    "PRISM, b1": ("PRISM", {"b1": 0.5}),
    "PRISM, gamma": ("PRISM", {"gamma": 0.5}),
    "PRISM, mode": ("PRISM", {"mode": "bidirectional"}),
    "PRISM, gamma_l": ("PRISM, bidirectional", {"gamma_l": 0.1}),
    "PRISM, gamma_r": ("PRISM, bidirectional", {"gamma_r": 0.1}),
    "PRISM, inv_steps": ("PRISM, bidirectional", {"inv_steps": 4}),
    "PRISM, inv_eps": ("PRISM, bidirectional", {"inv_eps": 1e-2}),
    "PRISM, inv_scale": ("PRISM, bidirectional", {"inv_scale": 1.01}),
    "PRISM, eps_gram": ("PRISM, bidirectional", {"eps_gram": 1e-2}),
    "PRISM, without Nesterov": ("PRISM", {"nesterov": False}),
    "PRISM, Nesterov after shaping": ("PRISM", {"shape_nesterov": False}),
    "PRISM, average shaped": ("PRISM", {"shape_nesterov": False, "nesterov": False}),
    "PRISM, bias_correction": ("PRISM", {"bias_correction": True}),
    "PRISM, corrected average": ("PRISM", {"bias_correction": True, "nesterov": False}),
    "PRISM, update_clip": ("PRISM", {"update_clip": (0.1, 0.2)}),
    "PRISM, eps": ("PRISM", {"eps": 1.0}),
    "PRISM, coefficient_set": ("PRISM", {"coefficient_set": "polar_express"}),
    "PRISM, custom": ("PRISM", {"coefficient_set": "custom", "custom_coefficients": ((1.5, -0.5, 0.0),)}),
    "PRISM, steps": ("PRISM", {"steps": 3}),
    "PRISM, output_axis": ("PRISM", {"output_axis": 1}),
    "SOAP, betas": ("SOAP", {"betas": (0.8, 0.9)}),
    "SOAP, shampoo_beta": ("SOAP", {"shampoo_beta": 0.5}),
    "SOAP, beta of the second moment": ("SOAP, by the authors", {"shampoo_beta": None}),
    "SOAP, eps": ("SOAP", {"eps": 1e-2}),
    "SOAP, eps_added_to": ("SOAP", {"eps_added_to": "uncorrected"}),
    "SOAP, precondition_frequency": ("SOAP", {"precondition_frequency": 2}),
    "SOAP, current_gradient": ("SOAP", {"current_gradient": False}),
    "SOAP, correct_shampoo_beta": ("SOAP", {"correct_shampoo_beta": True}),
    "SOAP, Jacobi": ("SOAP", {"basis": "jacobi"}),
    "SOAP, power_iterations": ("SOAP", {"power_iterations": 3}),
    "SOAP, moments not rotated": ("SOAP", {"rotate_moments": False}),
    "SOAP, moments not permuted": ("SOAP", {"permute_moments": False}),
    "SOAP, uncorrected": ("SOAP", {"correct_bias": False}),
    "SOAP, Nesterov": ("SOAP", {"nesterov": True}),
    "SOAP, max_size": ("SOAP", {"max_size": 4}),
    "SOAP, max_update_rms": ("SOAP", {"max_update_rms": 0.1}),
    "Muon, output_axis": ("Muon", {"output_axis": 1, "scale": "unit_rms"}),
}
"""Options that change the result of a rule of `MATRIX_RULES`: one for each option, by a name of the case."""
