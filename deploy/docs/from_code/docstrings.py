"""What autodoc needs to know of our docstrings: which names need no page, and how a property's first line is meant.

A docstring may name whatever exists. What has a page is linked; a module of ours, a type variable or something of
Python's own has none, and stands there as it is written. A name that doesn't exist is a warning, and so an error.
"""

from __future__ import annotations

import importlib
import re
import sys
from typing import Any

from docutils import nodes

__all__ = ["connect", "exists"]


def connect(app: Any) -> None:
    """Join Sphinx's events."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("missing-reference", _as_it_is)
    # Around Napoleon's own handler, which has the priority 500.
    app.connect("autodoc-process-docstring", _hide, priority=499)
    app.connect("autodoc-process-docstring", _show, priority=501)


def exists(name: str) -> bool:
    """Whether ``name`` is a module, or something in one: ``trishula.settings.load``."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            if not hasattr(found, part):
                return part in getattr(found, "__annotations__", {}) and part == parts[-1]
            found = getattr(found, part)
        return True
    return False


def _as_it_is(app: Any, env: Any, node: Any, content: nodes.Node) -> nodes.Node | None:
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"].lstrip(".")
    # A bare name is found without its module where only the type checker imports it.
    ours = [name for name in list(sys.modules) if name.split(".")[0] in ("trishula", "trishula_router")]
    if exists(target) or any(exists(f"{outer}.{target}") for outer in ("builtins", "typing", *ours)):
        return content
    return None


_hidden: list[str] = []


def _hide(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Napoleon takes "The end: it comes" of a property for a type and its description."""
    if what == "property":
        _hidden[:] = lines
        lines[:] = []


def _show(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    if what == "property":
        text = "\n".join(_hidden)
        text = re.sub(r"^Raises:\n((?: +.*\n?)+)", lambda found: _raises(found[1]), text, flags=re.M)
        lines[:] = [*text.splitlines(), ""]


def _raises(entries: str) -> str:
    """The entries of a section ``Raises:`` as fields."""
    return re.sub(r"^ {4}(\w+): ", r":raises \1: ", entries, flags=re.M)
