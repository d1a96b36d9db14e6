"""Whether a refusal names the option that is not allowed (ROSE-11.1)."""

import math
import re
from collections.abc import Mapping
from typing import Any

from rose_spec.floats import BFLOAT16, FLOAT16
from rose_spec.oracle import COMPUTE_FORMATS
from rose_spec.ports.port import Port, plain_options

__all__ = ["refused_option", "unnamed_option"]


def refused_option(value: Mapping[str, Any]) -> str | None:
    """Return the option of a step's "input" that clause 10 does not allow, or None if its arrays are at fault."""
    options = plain_options(value["options"])
    lr, weight_decay, reference, max_step = map(options.get, ("lr", "weight_decay", "lr_reference", "max_step"))
    if lr is None or not 0.0 <= lr < math.inf:
        return "lr"
    if weight_decay is not None and not 0.0 <= weight_decay < math.inf:
        return "weight_decay"
    if reference is not None and not 0.0 < reference < math.inf:
        return "lr_reference"
    if max_step is not None and not max_step > 0.0:
        return "max_step"
    name = options.get("compute_dtype", "fp64")
    compute = COMPUTE_FORMATS.get(name.strip().lower(), FLOAT16) if isinstance(name, str) else None
    is_unknown = isinstance(name, str) and name.strip().lower() not in COMPUTE_FORMATS
    return "compute_dtype" if is_unknown or ("noise" in value and compute in (FLOAT16, BFLOAT16)) else None


def unnamed_option(port: Port, value: Mapping[str, Any], reason: str) -> str | None:
    """Return the port's name of the option that the reason of a refusal should name, or None if it names it.

    A port with another name for an option has a method `option_name`.
    """
    option, name_of = refused_option(value), getattr(port, "option_name", str)
    if option is None:
        return None
    others = ("bf16_sr", "noise") if option == "compute_dtype" and "noise" in value else ()  # ROSE-10.4
    names: list[str] = [name_of(name) for name in (option, *others)]
    return None if any(re.search(rf"\b{re.escape(name)}\b", reason) for name in names) else names[0]
