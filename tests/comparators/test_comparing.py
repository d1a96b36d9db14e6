"""No implementation that is installed is skipped, and the list of them is that of the extra "comparators"."""

import re
from importlib import metadata
from types import SimpleNamespace

import pytest

from tests.comparators import comparing
from tests.comparators.comparing import DISTRIBUTIONS, comparator


def test_the_distributions_are_those_of_the_extra() -> None:
    entries = [entry for entry in metadata.requires("rose-core") or () if re.search(r"extra == .comparators", entry)]
    names = {re.split(r"[^\w-]", entry)[0] for entry in entries}
    assert names == {*DISTRIBUTIONS.values(), "safetensors", "torch"}


def test_a_module_that_is_not_installed_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DISTRIBUTIONS, "no_such_package", "no-such-package")
    with pytest.raises(pytest.skip.Exception, match="no_such_package is not installed"):
        comparator("no_such_package.module")


def test_an_installed_module_that_cannot_be_imported_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = SimpleNamespace(version=lambda _: "1.0", PackageNotFoundError=metadata.PackageNotFoundError)
    monkeypatch.setattr(comparing, "metadata", versions)
    monkeypatch.setitem(DISTRIBUTIONS, "no_such_package", "no-such-package")
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        comparator("no_such_package.module")
