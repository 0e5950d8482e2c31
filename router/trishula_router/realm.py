"""The realm: the roles in it, and which of its names travel between linked nodes.

A link carries events of ``peer.*``, ``event.*`` and ``agent.<a>.topic.*``, and calls of ``agent.<a>.<procedure>``, and
nothing else: neither a mailbox nor a receipt, which are one node's answer to its own sessions.
"""

from __future__ import annotations

from trishula.contract import uris

__all__ = ["AGENT_ROLE", "LINK_ROLE", "NODE_ROLE", "OPERATOR_ROLE", "travels_as_procedure", "travels_as_topic"]

#: The roles, as the node's config declares them.
AGENT_ROLE = "agent"
OPERATOR_ROLE = "operator"
NODE_ROLE = "node"
#: Crossbar itself knows this one: it leaves registrations of such sessions out of its meta events.
LINK_ROLE = "rlink"


def travels_as_topic(uri: str) -> bool:
    """Whether a link carries the events of a topic."""
    if uri.startswith((uris.PEER_PREFIX, uris.EVENTS_PREFIX)):
        return True
    at = uris.parse_agent_uri(uri)
    return at is not None and at.kind == "topic" and bool(at.rest)


def travels_as_procedure(uri: str) -> bool:
    """Whether a link carries the calls of a procedure."""
    at = uris.parse_agent_uri(uri)
    return at is not None and at.kind == "procedure"
