"""The names of procedures that agents offer: an agent's own part of a procedure's URI, behind the agent's name."""

from __future__ import annotations

import re

__all__ = ["is_procedure_name"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*\Z")


def is_procedure_name(text: str) -> bool:
    """Whether an agent can offer a procedure by that name."""
    return _NAME.match(text) is not None
