"""Sphinx builds the documentation from the Markdown files where they are, and from the docstrings.

    sphinx-build -W --keep-going -c .docs . build/docs

The source folder is the root of the repository, so that links between documents are the same here and on GitHub.
Warnings are errors: a link, a file or a name of the project that does not exist fails the build.
"""

import re
import warnings
from importlib.metadata import version as version_of
from typing import Any, Final

from docutils import nodes
from sphinx.application import Sphinx

project = "Rose"
author = "the authors of this implementation; Rose is by Matthew E. Kieren"
version = release = version_of("rose-core")

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc"]
root_doc = "README"
include_patterns = [
    "README.md",
    ".docs/*.md",
    ".github/*.md",
    "adapters/*/README.md",
    "rose_core/*/README.md",
    "spec/*.md",
]
exclude_patterns = [".git", ".venv", "build", "dist"]  # folders that need no search
myst_heading_anchors = 3

# torch is imported, since its classes are base classes. These libraries are not.
autodoc_mock_imports = ["cupy", "lightning", "transformers"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say types in words
numpydoc_show_class_members = False

nitpicky = True
warnings.filterwarnings("error", category=UserWarning, module="numpydoc")  # of sections that it does not know
nitpick_ignore_regex = [("py:.*", r"(lightning|torch|transformers)\..*")]  # base classes in other projects
default_role = "py:obj"

html_theme = "furo"
html_show_copyright = False  # LICENSE says it
html_title = f"Rose {version}"
html_extra_path = ["index.html"]
html_static_path = ["wide.css"]
html_css_files = ["wide.css"]

CONTENTS: Final = """
```{toctree}
:hidden:
:caption: Guides

adapters/rose_torch/README
adapters/rose_numpy/README
adapters/rose_kernels/README
rose_core/peers/README
spec/README
```

```{toctree}
:hidden:
:caption: Reference

spec/SPEC
spec/CONFORMANCE
.docs/rose_core
.docs/rose_core_peers
.docs/rose_numpy
.docs/rose_cupy
.docs/rose_torch
.docs/rose_diagnosis
.docs/rose_kernels
```

```{toctree}
:hidden:
:caption: Development

.github/CONTRIBUTING
.github/CHANGELOG
```
"""


def add_contents(app: Sphinx, docname: str, source: list[str]) -> None:
    """Add the table of contents to the first page, whose file is the README."""
    if docname == app.config.root_doc:
        source[0] += CONTENTS


def escape_bars(_app: Sphinx, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Escape absolute values in docstrings. reStructuredText takes |max| for a substitution."""
    lines[:] = [re.sub(r"\|(\w+)\|", r"\\|\1\\|", line) for line in lines]


def skip_fields(_app: Sphinx, _what: str, _name: str, obj: Any, _skip: bool, _options: Any) -> bool | None:
    """Leave out the fields of named tuples, which the docstring of the class describes."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def keep_as_code(_app: Sphinx, _env: Any, node: nodes.Element, content: nodes.TextElement) -> nodes.TextElement | None:
    """Show a name in single backticks as code if it is no link. Dotted names of the project must be links."""
    must_exist = re.match(r"rose_(?!opt)\w+\.", node["reftarget"])
    return None if node["reftype"] != "obj" or must_exist else content


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.connect("source-read", add_contents)
    app.connect("autodoc-process-docstring", escape_bars)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("missing-reference", keep_as_code)
