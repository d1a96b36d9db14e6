"""Checkpoints of training loops over arrays: one safetensors file, which is replaced at once."""

import importlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from rose_arrays.structure import flatten_parameters
from rose_core.namespace import array_namespace, dtype_name, require_array
from rose_plan import differences

__all__ = ["load", "save"]

# The dtypes of the format, by their names in NumPy.
_FORMAT_DTYPES: Final = {
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
    "bfloat16": "BF16",
    "bool": "BOOL",
}
# In the JSON of a state, the key of a dict that stands for an array, and for a dict whose keys are no strings.
_ARRAY, _ITEMS = "__array__", "__items__"
_RESERVED: Final = "__metadata__"


def save(path: str | os.PathLike[str], weights: Any, optimizer: Any = None, *, extra: Any = None) -> None:
    """Save arrays and the state of their optimizer in one safetensors file.

    The file is written beside `path` under another name, flushed to the disk, and renamed. A process that is killed
    leaves the old file or the new one, and maybe a temporary file whose name ends in ".tmp".

    Parameters
    ----------
    path : path-like
        The file to write or to replace.
    weights : mapping of str to array, or iterable of array
        Arrays of NumPy or CuPy, memory-mapped ones too. They may include arrays that the optimizer does
        not have, for instance averages. Arrays of an iterable are named "0", "1" and so on.
    optimizer : Rose, optional
        The optimizer of `rose_numpy` or `rose_cupy`. Others work too, if `state_dict` returns plain values and arrays.
    extra : optional
        Plain values that JSON can hold, for instance the number of the next step. `load` returns them.

    Raises
    ------
    TypeError
        If an array has a dtype that the format does not have, or the state or `extra` is not plain.
    ValueError
        If an array has a name that the format or the state of the optimizer needs.
    ImportError
        If safetensors is not installed.
    OSError
        If the file cannot be written.

    Notes
    -----
    The dtypes are kept, bfloat16 too. Other programs can read the arrays.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from rose_numpy import Rose, load, save
    >>> path = tempfile.mkdtemp() + "/run.safetensors"
    >>> weights = {"w": np.ones((2, 2))}
    >>> save(path, weights, Rose(weights, lr=0.5), extra={"next": 1})
    >>> resumed = {"w": np.empty((2, 2))}
    >>> load(path, resumed, Rose(resumed, lr=0.5)), resumed["w"].tolist()
    ({'next': 1}, [[1.0, 1.0], [1.0, 1.0]])
    """
    save_file = _safetensors("save").numpy.save_file
    arrays = _named(weights)
    of_optimizer: dict[str, Any] = {}
    state = None if optimizer is None else _without_arrays(optimizer.state_dict(), "optimizer", of_optimizer)
    metadata = {"optimizer": _json("optimizer.state_dict()", state), "extra": _json("extra", extra)}
    if same := sorted(arrays.keys() & of_optimizer.keys()):
        raise ValueError(f"weights has the names {same}, which the optimizer's state needs")
    with _replacing(Path(path)) as temporary:
        hosts = {name: _on_host(array) for name, array in (arrays | of_optimizer).items()}
        save_file(hosts, temporary, metadata=metadata)


def load(path: str | os.PathLike[str], weights: Any, optimizer: Any = None) -> Any:
    """Write the arrays of a file into existing ones, and load the state of their optimizer.

    A run that continues has the same bits as one without a break, rounding noise included.

    Parameters
    ----------
    path : path-like
        A file that `save` has written.
    weights : mapping of str to array, or iterable of array
        The arrays, with the names, shapes and dtypes of the file. They are overwritten in place.
    optimizer : Rose, optional
        Its state is replaced: the options, the schedules and the step counts. Without it the arrays are loaded alone.

    Returns
    -------
    object
        The `extra` of `save`.

    Raises
    ------
    TypeError, ValueError
        If the file is damaged, or its names, shapes, dtypes or state are other ones. Nothing is changed then.
    ImportError
        If safetensors is not installed.
    OSError
        If the file cannot be read.

    """
    safetensors = _safetensors("load")
    arrays = _named(weights)
    try:
        file = safetensors.safe_open(path, framework="np")
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not a complete safetensors file: {error}") from error
    with file:
        metadata = file.metadata() or {}
        if not metadata.keys() >= {"optimizer", "extra"}:
            raise ValueError(f"{path} has no entries 'optimizer' and 'extra' in its metadata, as save writes them")
        state, extra = json.loads(metadata["optimizer"]), json.loads(metadata["extra"])
        _require_same(path, arrays, file, set(_names_of_arrays(state)))
        if optimizer is not None:
            if state is None:
                raise ValueError(f"{path} has no state of an optimizer; it was saved without one")
            xp = array_namespace(next(iter(arrays.values()), np.empty(0)))
            optimizer.load_state_dict(_with_arrays(state, lambda name: xp.asarray(file.get_tensor(name))))
        for name, array in arrays.items():
            array[...] = array_namespace(array).asarray(file.get_tensor(name))
    return extra


def _json(label: str, value: Any) -> str:
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"{label} must have plain values that JSON can hold: {error}") from error
    for key in _other_keys(value):
        raise TypeError(f"{label} must have strings as the keys of its dicts, since JSON has no others; got {key!r}")
    return text


def _other_keys(value: Any) -> Iterator[Any]:
    """Yield the keys that are no strings, of all dicts in a value without cycles."""
    parts = [value]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            yield from (key for key in part if not isinstance(key, str))
            parts.extend(part.values())
        elif isinstance(part, list | tuple):
            parts.extend(part)


def _named(weights: Any) -> dict[str, Any]:
    names, arrays = flatten_parameters(weights, "weights")
    named = dict(zip(map(str, range(len(arrays))) if names is None else names, arrays, strict=True))
    if _RESERVED in named:
        raise ValueError(f"weights must not have the name {_RESERVED!r}, which safetensors reserves")
    for name, array in named.items():
        require_array(array, f"weights[{name!r}]")
        if not (isinstance(array, np.ndarray) or hasattr(array, "get")):
            raise TypeError(f"weights[{name!r}] must be an array of NumPy or CuPy, got {type(array).__name__}")
        if dtype_name(array) not in _FORMAT_DTYPES:
            raise TypeError(f"weights[{name!r}] has dtype {dtype_name(array)}; allowed are {', '.join(_FORMAT_DTYPES)}")
    return named


def _on_host(array: Any) -> np.ndarray:
    return np.asarray(array.get() if hasattr(array, "get") else array, order="C")


def _without_arrays(value: Any, name: str, arrays: dict[str, Any]) -> Any:
    """Return a state as JSON can hold it, and put its arrays into a dict. JSON has no keys that are integers."""
    if hasattr(value, "dtype"):
        arrays[name] = value
        return {_ARRAY: name}
    if isinstance(value, Mapping):
        plain = {key: _without_arrays(item, f"{name}/{key}", arrays) for key, item in value.items()}
        return plain if all(isinstance(key, str) for key in plain) else {_ITEMS: list(plain.items())}
    if isinstance(value, list | tuple):
        return [_without_arrays(item, f"{name}/{number}", arrays) for number, item in enumerate(value)]
    return value


def _with_arrays(value: Any, array_of: Callable[[str], Any]) -> Any:
    """Return the state that `_without_arrays` got, with lists for tuples."""
    if isinstance(value, list):
        return [_with_arrays(item, array_of) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_ARRAY}:
        return array_of(value[_ARRAY])
    items = value[_ITEMS] if value.keys() == {_ITEMS} else value.items()
    return {key: _with_arrays(item, array_of) for key, item in items}


def _names_of_arrays(state: Any) -> list[str]:
    names: list[str] = []
    _with_arrays(state, names.append)
    return names


def _require_same(path: Any, arrays: dict[str, Any], file: Any, of_optimizer: set[str]) -> None:
    """Raise unless the arrays have the names, shapes and dtypes of the file, and can be overwritten."""
    saved = set(file.keys()) - of_optimizer
    if saved != set(arrays):
        text = differences({"missing are": sorted(set(arrays) - saved), "unknown are": sorted(saved - set(arrays))})
        raise ValueError(f"{path} must have the names of weights; {text}")
    for name, array in arrays.items():
        entry = file.get_slice(name)
        for of, found, here in (
            ("shape", tuple(entry.get_shape()), tuple(array.shape)),
            ("dtype", entry.get_dtype(), _FORMAT_DTYPES[dtype_name(array)]),
        ):
            if found != here:
                raise ValueError(f"{path} has {name!r} with {of} {found}, weights with {here}; they must be equal")
        if not getattr(array.flags, "writeable", True):
            raise ValueError(f"weights[{name!r}] must be writable, since it is overwritten; it is read-only")


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a new file, which then takes the place of `path` at once."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode  # safetensors may write a file that its owner alone can read
        yield temporary
        temporary.chmod(mode)
        _flush(temporary, os.O_RDWR)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":
        _flush(path.parent, os.O_RDONLY)  # so that the new name survives a power cut


def _flush(path: Path, mode: int) -> None:
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _safetensors(function: str) -> Any:
    try:
        importlib.import_module("safetensors.numpy")
        return importlib.import_module("safetensors")
    except ImportError as error:
        raise ImportError(f"{function} needs safetensors: pip install safetensors") from error
