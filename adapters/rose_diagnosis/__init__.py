"""What the next step of an optimizer would do, to look at: the result of `diagnose`, which every adapter has."""

from rose_core.diagnosis import ParameterDiagnosis
from rose_diagnosis.diagnosis import Diagnosis

__all__ = ["Diagnosis", "ParameterDiagnosis"]
