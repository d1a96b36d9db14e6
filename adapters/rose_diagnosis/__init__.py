"""The effect of the next step of an optimizer: the result of `diagnose` in every adapter."""

from rose_diagnosis.diagnosis import Diagnosis
from rose_diagnosis.parameter import ParameterDiagnosis

__all__ = ["Diagnosis", "ParameterDiagnosis"]
