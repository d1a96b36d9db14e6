"""The result of a diagnosis: an entry for each parameter, as plain data, as a table and as a plot."""

from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from typing import Any, Final, overload

from rose_diagnosis.parameter import ParameterDiagnosis
from rose_diagnosis.plot import save_plot
from rose_diagnosis.table import format_table

__all__ = ["Diagnosis"]

_SCALARS: Final = (
    "trust",
    "range_min",
    "range_median",
    "range_max",
    "zero_denominators",
    "centered_share",
    "update_rms",
    "relative_update",
    "largest_step",
)
_LEAST_WIDTH: Final = 80


class Diagnosis(Sequence[ParameterDiagnosis]):
    """The effect of the next step on each parameter, in the order of the optimizer's groups.

    Parameters
    ----------
    entries : iterable of ParameterDiagnosis
        One for each parameter.

    Examples
    --------
    >>> import numpy as np
    >>> from rose_numpy import Rose, diagnose
    >>> optimizer = Rose({"w": np.full((2, 2), 0.5)}, lr=0.25)
    >>> diagnosis = diagnose(optimizer, {"w": np.asarray([[1.0, 3.0], [2.0, 4.0]])})
    >>> diagnosis[0].trust, diagnosis[0].range_median, diagnosis[0].relative_update
    (1.0, 2.0, 0.25)
    """

    def __init__(self, entries: Iterable[ParameterDiagnosis]) -> None:
        self._entries = tuple(entries)

    @overload
    def __getitem__(self, index: int) -> ParameterDiagnosis: ...
    @overload
    def __getitem__(self, index: slice) -> "Diagnosis": ...
    def __getitem__(self, index: int | slice) -> "ParameterDiagnosis | Diagnosis":
        return Diagnosis(self._entries[index]) if isinstance(index, slice) else self._entries[index]

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[ParameterDiagnosis]:
        return iter(self._entries)

    def __eq__(self, other: object) -> bool:
        return self._entries == other._entries if isinstance(other, Diagnosis) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._entries)

    def __repr__(self) -> str:
        return f"Diagnosis({list(self._entries)!r})"

    def __str__(self) -> str:
        return self.table()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as `json.dumps` takes them. Some readers of JSON do not accept NaN.

        Returns
        -------
        dict
            "parameters" is a list of dicts with the attributes of each `ParameterDiagnosis`.
        """
        return {"parameters": [entry.to_dict() for entry in self._entries]}

    def scalars(self, prefix: str = "rose") -> dict[str, float]:
        """Return the numbers as a flat dict, as a logger takes them.

        Parameters
        ----------
        prefix : str
            The first part of each name.

        Returns
        -------
        dict of str to float
            The numbers of each `ParameterDiagnosis` that are not None, as "prefix/parameter/trust" and so on. The
            update is there by itself and relative to the parameter, since a parameter of zeros has no relative one.
        """
        return {
            f"{prefix}/{entry.name}/{scalar}": value
            for entry in self._entries
            for scalar in _SCALARS
            if (value := getattr(entry, scalar)) is not None
        }

    def table(self, width: int | None = 80) -> str:
        """Return a table as text: a line for each parameter, and the remarks below. `print` shows it.

        Parameters
        ----------
        width : int or None
            The number of columns, at least 80. Long names lose their middle; None keeps them.

        Returns
        -------
        str

        Raises
        ------
        ValueError
            If `width` is less than 80.

        Notes
        -----
        A remark names a parameter that stays in place, or has no finite gradient. It also tells when centering removes
        more than half of the gradient, and when an element moves by more than 10 times the learning rate. A star marks
        a parameter of zeros, which shows the update itself.
        """
        if not (width is None or width >= _LEAST_WIDTH):
            raise ValueError(f"width must be None or an integer >= {_LEAST_WIDTH}, got {width!r}")
        return format_table(self._entries, width)

    def plot(self, path: str | PathLike[str]) -> None:
        """Save a plot of the ranges, the trust and the relative updates as PNG.

        Parameters
        ----------
        path : path-like
            The file to write.

        Raises
        ------
        ImportError
            If matplotlib is not installed; the message names it.
        """
        save_plot(self._entries, path)
