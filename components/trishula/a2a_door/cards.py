"""Agent Cards: what A2A's clients are told of an agent of the bus. No I/O, no SDK: cards are maps, as their JSON is.

A card says the same whether its agent is there or asleep, since tasks are taken either way; so clients may keep it. Its
skills are what the agent announced (``capabilities``), and ``message``: any text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["card_of"]

_MODES = ["text/plain", "application/json"]


def card_of(agent: str, capabilities: Sequence[str], url: str, version: str) -> dict[str, Any]:
    """The card of an agent, not signed.

    Args:
        agent: its name.
        capabilities: what it announced.
        url: where the door serves it, without a slash at the end.
        version: of this program: all agents have it, for the bus knows no versions of agents.
    """
    interfaces = [
        {"url": f"{url}/rpc", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"},
        {"url": f"{url}/rest", "protocolBinding": "HTTP+JSON", "protocolVersion": "1.0"},
        {"url": f"{url}/rpc", "protocolBinding": "JSONRPC", "protocolVersion": "0.3"},
    ]
    return {
        "name": agent,
        "description": (
            f"The agent {agent} on a TRISHULA bus. A task is on disk before it is submitted, and waits while the agent "
            "is away."
        ),
        "version": version,
        "supportedInterfaces": interfaces,
        "capabilities": {"streaming": True, "pushNotifications": True},
        "securitySchemes": {
            "bearer": {
                "httpAuthSecurityScheme": {
                    "scheme": "Bearer",
                    "bearerFormat": "NAME.SECRET",
                    "description": "The token of the agent of the bus that calls.",
                }
            }
        },
        "securityRequirements": [{"schemes": {"bearer": {}}}],
        "defaultInputModes": _MODES,
        "defaultOutputModes": _MODES,
        "skills": [
            {
                "id": "message",
                "name": "message",
                "description": f"Give {agent} a task in words, or with data.",
                "tags": ["message"],
            },
            *(
                {
                    "id": capability,
                    "name": capability,
                    "description": f"{agent} announced {capability}. The procedure of a message is metadata.skill.",
                    "tags": [capability],
                }
                for capability in sorted(set(capabilities) - {"message"})
            ),
        ],
    }
