"""The table of exit codes: the members of ``trishula.exit_codes.Exit`` and the comments above them."""

from __future__ import annotations

import inspect
import re

from deploy.docs.from_code.rst import list_table

from trishula.exit_codes import Exit

__all__ = ["meanings", "table"]


def meanings() -> dict[str, str]:
    """Each code's name → what the comment above it says."""
    found = re.findall(r"((?:^ +#: .*\n)+) +(\w+) = ", inspect.getsource(Exit), re.M)
    return {name: " ".join(re.sub(r"^ +#:", "", comment, flags=re.M).split()) for comment, name in found}


def table() -> str:
    """Code, name, meaning."""
    said = meanings()
    rows = [(str(code.value), f"``{code.name}``", said[code.name]) for code in Exit]
    return list_table(("Code", "Name", "Meaning"), rows, (8, 22, 70))
