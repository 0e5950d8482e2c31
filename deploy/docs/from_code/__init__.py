"""A Sphinx extension: the parts of the reference that the code knows better than a writer, made at each build.

``.. from-code:: errors`` puts reStructuredText in its place, as if it were written there. What may be named is in
:data:`PARTS`; each part is a function of a module of this package that returns the text, so that a test can read it
without Sphinx. A table that is made here is written down nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from deploy.docs.from_code import commands, contract, docstrings, errors, exit_codes, metrics, options, tools, variables
from docutils import nodes
from docutils.parsers.rst import Directive

__all__ = ["PARTS", "FromCode", "setup"]

PARTS: Mapping[str, Callable[[], str]] = {
    "command-list": commands.overview,
    "commands": commands.details,
    "contract": contract.text,
    "errors": errors.table,
    "exit-codes": exit_codes.table,
    "metrics": metrics.table,
    "options": options.table,
    "profile-keys": variables.profile_keys,
    "tools": tools.details,
    "uris": contract.uris,
    "variables": variables.variables,
}


class FromCode(Directive):
    """``.. from-code:: NAME``."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Callable[[str], Any]] | None] = None

    def run(self) -> list[nodes.Node]:
        """Put the part's text into the input, behind this line."""
        name = self.arguments[0]
        if name not in PARTS:
            raise self.error(f"there is no part {name!r} made from code; there are {', '.join(PARTS)}")
        lines = PARTS[name]().splitlines()
        self.state_machine.insert_input(["", *lines, ""], source=f"from-code: {name}")
        return []


def setup(app: Any) -> dict[str, Any]:
    """What Sphinx calls."""
    app.add_directive("from-code", FromCode)
    # The pages that use the directive change with the code, of which Sphinx's cache knows nothing.
    app.connect("env-get-outdated", _outdated)
    docstrings.connect(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _outdated(app: Any, env: Any, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    return [name for name in env.found_docs if name.startswith("reference/")]
