"""The matrix rules that the tests run, each with the options that they run with."""

from typing import Any, Final

from rose_core import peers
from rose_core.peers import Rule

__all__ = ["MATRIX_RULES", "MATRIX_VARIANTS"]

MATRIX_RULES: Final[dict[str, Rule]] = {
    "Muon": peers.Muon(),
    "PRISM": peers.PRISM(),
    "PRISM, bidirectional": peers.PRISM(mode="bidirectional"),
    "Kron": peers.Kron(max_skew=2.0),
    "Kron, symmetric factors": peers.Kron(max_skew=2.0, mode="NS"),
    "Kron, clipped": peers.Kron(max_skew=2.0, update_clip=(0.1, 0.2)),
    "Kron, seldom fitted": peers.Kron(max_skew=2.0, flat_steps=0, probability_decay=1.0),
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
    "SOAP, KL-Shampoo": ("SOAP", {"kl_shampoo": True}),
    "SOAP, max_size": ("SOAP", {"max_size": 4}),
    "SOAP, max_update_rms": ("SOAP", {"max_update_rms": 0.1}),
    "Kron, b1": ("Kron", {"b1": 0.5}),
    "Kron, no average": ("Kron", {"b1": 0.0}),
    **{f"Kron, {mode}": ("Kron", {"mode": mode}) for mode in ("EQ", "QUAD", "NS", "EXP", "TAYLOR2", "HYPER")},
    "Kron, precond_lr": ("Kron", {"precond_lr": 0.5}),
    "Kron, max_size": ("Kron", {"max_size": 4}),
    "Kron, max_skew": ("Kron", {"max_skew": 1.0}),
    "Kron, min_ndim": ("Kron", {"min_ndim": 3}),
    "Kron, one_diag": ("Kron", {"memory_save_mode": "one_diag"}),
    "Kron, all_diag": ("Kron", {"memory_save_mode": "all_diag"}),
    "Kron, init_scale": ("Kron", {"init_scale": 1.0}),
    "Kron, max_probability": ("Kron", {"max_probability": 0.1}),
    "Kron, min_probability": ("Kron, seldom fitted", {"min_probability": 0.9}),
    "Kron, probability_decay": ("Kron, seldom fitted", {"probability_decay": 0.01}),
    "Kron, flat_steps": ("Kron, seldom fitted", {"flat_steps": 10}),
    "Kron, whiten_grad": ("Kron", {"whiten_grad": False}),
    "Kron, update_first": ("Kron", {"update_first": False}),
    "Kron, track_norms": ("Kron", {"track_norms": False}),
    "Kron, beta_lipschitz": ("Kron", {"beta_lipschitz": 0.5}),
    "Kron, damping": ("Kron", {"damping": 0.1}),
    "Kron, noise_scale": ("Kron", {"noise_scale": 0.1}),
    "Kron, steps": ("Kron, symmetric factors", {"steps": 9}),
    "Kron, balance_probability": ("Kron", {"balance_probability": 1.0}),
    "Kron, update_clip": ("Kron", {"update_clip": (0.1, 0.2)}),
    "Kron, clip_mode": ("Kron, clipped", {"clip_mode": "global_rms"}),
    "Muon, output_axis": ("Muon", {"output_axis": 1, "scale": "unit_rms"}),
}
"""Options that change the result of a rule of `MATRIX_RULES`: one for each option, by a name of the case."""
