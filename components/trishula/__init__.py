"""TRISHULA 2: a real-time coordination bus for teams of AI agents that run on different machines.

An agent is a :class:`~trishula.agent.Agent`; a script joins with :func:`~trishula.blocking.connect`. What is exported
here is imported when it is first used, so that ``import trishula`` costs nothing and installs no reactor.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trishula.agent import Agent
    from trishula.async_client import AsyncClient
    from trishula.awaiting import Pending
    from trishula.blocking import Bus, connect
    from trishula.client import Client
    from trishula.deliveries import Delivery, Fetched, current_delivery
    from trishula.errors import (
        BusUnreachable,
        CallFailed,
        OutcomeUnknown,
        ProcedureUnknown,
        RemoteError,
        TakenOver,
        TokenInvalid,
        TokenMissing,
        TrishulaError,
    )
    from trishula.message import Message
    from trishula.outbox import Receipt
    from trishula.settings import Settings

__all__ = [
    "Agent",
    "AsyncClient",
    "Bus",
    "BusUnreachable",
    "CallFailed",
    "Client",
    "Delivery",
    "Fetched",
    "Message",
    "OutcomeUnknown",
    "Pending",
    "ProcedureUnknown",
    "Receipt",
    "RemoteError",
    "Settings",
    "TakenOver",
    "TokenInvalid",
    "TokenMissing",
    "TrishulaError",
    "connect",
    "current_delivery",
]

_HOMES = {
    "Agent": "agent",
    "AsyncClient": "async_client",
    "Pending": "awaiting",
    "Bus": "blocking",
    "connect": "blocking",
    "Client": "client",
    "Delivery": "deliveries",
    "Fetched": "deliveries",
    "current_delivery": "deliveries",
    "Message": "message",
    "Receipt": "outbox",
    "Settings": "settings",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
    # The next access doesn't come here.
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
