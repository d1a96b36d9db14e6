"""What the next step of an optimizer would do, to look at: the result of `diagnose`, which every adapter has."""

from rose_diagnosis.diagnosis import Diagnosis
from rose_diagnosis.parameter import ParameterDiagnosis

__all__ = ["Diagnosis", "ParameterDiagnosis"]
