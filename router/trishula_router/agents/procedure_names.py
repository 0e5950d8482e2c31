"""The names of procedures and topics that agents offer: an agent's own part of the URI, behind the agent's name."""

from __future__ import annotations

import re

__all__ = ["is_procedure_name", "is_topic_name"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*\Z")
_TOPIC = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\Z")


def is_procedure_name(text: str) -> bool:
    """Whether an agent can offer a procedure by that name."""
    return _NAME.match(text) is not None


def is_topic_name(text: str) -> bool:
    """Whether an agent can have a topic by that name."""
    return _TOPIC.match(text) is not None
