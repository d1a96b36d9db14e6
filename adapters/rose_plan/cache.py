"""The results of the checks of a step, remembered from one step to the next."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, NamedTuple

from rose_core.rounding import ComputeDtype
from rose_kernels import Kernel
from rose_plan.memory import Spans, spans_of

__all__ = ["CheckCache", "Checked", "CheckedRow", "Properties"]

Properties = Sequence[Sequence[Any]]
"""The properties of arrays that the checks depend on: one list for each property, with an entry for each array."""

# Parameters may have a gradient in some steps only, and so make several sets.
_MAX_SETS: Final = 2


class CheckedRow(NamedTuple):
    """The result of the checks of one parameter and its gradient.

    Attributes
    ----------
    compute : the compute dtype.
    stochastic : whether the parameter is rounded with noise.
    kernel : the compiled kernel that updates the parameter, None where the core does.
    param_span, grad_span : the spans of the two arrays in memory (`span_of`).
    """

    compute: ComputeDtype
    stochastic: bool
    kernel: Kernel | None
    param_span: tuple[int, int]
    grad_span: tuple[int, int]


@dataclass(frozen=True)
class Checked:
    """The results of the checks of several parameters, in columns. See `CheckedRow`."""

    computes: Sequence[ComputeDtype]
    stochastic: Sequence[bool]
    kernels: Sequence[Kernel | None]
    param_spans: Spans
    grad_spans: Spans

    @classmethod
    def of_rows(cls, rows: Sequence[CheckedRow]) -> "Checked":
        """Return the columns of these rows."""
        computes, stochastic, kernels, param_spans, grad_spans = zip(*rows, strict=True) if rows else ((),) * 5
        return cls(computes, stochastic, list(kernels), spans_of(param_spans), spans_of(grad_spans))


class CheckCache:
    """Remembers what the checks of a step found, as long as the arrays and the options stay alike.

    Parameters
    ----------
    properties : callable
        Returns the properties of parameters and gradients that the checks depend on, in columns. It returns None
        for arrays whose checks must run at each step.
    """

    def __init__(self, properties: Callable[[Sequence[Any], Sequence[Any]], Properties | None]) -> None:
        self._properties = properties
        self._sets: list[tuple[Any, Checked]] = []
        self._rows: dict[int, tuple[Any, CheckedRow]] = {}

    def find(
        self,
        indices: Sequence[int],
        params: Sequence[Any],
        grads: Sequence[Any],
        options: Sequence[tuple[Hashable, int]],
        check: Callable[[int], CheckedRow],
    ) -> Checked:
        """Return the results of the checks of a step.

        Parameters
        ----------
        indices : the index of each parameter in the optimizer.
        params, grads : the parameters and their gradients.
        options : the options that the checks depend on, and how many parameters in turn they hold for.
        check : runs the checks of the parameter at a position of these lists, or raises.
        """
        columns = self._properties(params, grads)
        if columns is None:
            return Checked.of_rows([check(position) for position in range(len(params))])
        key = indices, options, columns
        for known, checked in self._sets:
            if known == key:
                return checked
        checked = Checked.of_rows(self._find_rows(indices, options, columns, check))
        self._sets = [(key, checked), *self._sets[: _MAX_SETS - 1]]
        return checked

    def _find_rows(
        self,
        indices: Sequence[int],
        options: Sequence[tuple[Hashable, int]],
        columns: Properties,
        check: Callable[[int], CheckedRow],
    ) -> list[CheckedRow]:
        """Look up, or check, one parameter after the other."""
        each_options = chain.from_iterable([chosen] * count for chosen, count in options)
        rows = []
        for position, key in enumerate(zip(each_options, *columns, strict=True)):
            known = self._rows.get(indices[position])
            if known is None or known[0] != key:
                known = self._rows[indices[position]] = key, check(position)
            rows.append(known[1])
        return rows
