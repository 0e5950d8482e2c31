"""TRISHULA 2: a real-time coordination bus for teams of AI agents that run on different machines.

An agent is a :class:`~trishula.agent.Agent`; a script joins with :func:`~trishula.sync.connect`. What is exported
here is imported when it is first used, so that ``import trishula`` costs nothing and installs no reactor.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trishula.agent import Agent
    from trishula.async_client import AsyncClient
    from trishula.client import Client
    from trishula.contract.answers import AgentInfo, LifeEvent, MessageHistory, MessageLife, MessageStatus
    from trishula.contract.deliveries import Delivery, Fetched, current_delivery
    from trishula.contract.message import Message
    from trishula.contract.receipts import Receipt
    from trishula.errors import (
        AgentUnknown,
        AnswerEarly,
        AnswerRefused,
        ArgumentInvalid,
        AttachmentAway,
        AttachmentDamaged,
        AttachmentsFull,
        AttachmentsOff,
        AttachmentTooLarge,
        AttachmentUnknown,
        BusUnreachable,
        CallFailed,
        CallsExceeded,
        CapabilityForbidden,
        ConnectionsExceeded,
        CopiesUnavailable,
        DeadLetter,
        FallbackOn,
        FetchesExceeded,
        FileInvalid,
        FolderUnusable,
        ForwardingForbidden,
        IdReused,
        InstancesExceeded,
        InstanceUnknown,
        KeyUnknown,
        LeasesExceeded,
        LeaseTaken,
        LeaseUnknown,
        LeaseUnsure,
        LoopQuarantined,
        MailboxBusy,
        MailboxFull,
        MessageCancelled,
        MessageExpired,
        MessageInvalid,
        MessageSetAside,
        MessageUnknown,
        NodeBusy,
        NodeFailed,
        NodeStopping,
        NodeUnknown,
        NotAllowed,
        NotAllSent,
        OutboxFull,
        OutcomeUnknown,
        PayloadNotJson,
        PayloadTooLarge,
        ProcedureUnknown,
        RateLimited,
        ReadsTooSlowly,
        RecipientForbidden,
        RecipientUnknown,
        RegistrationsExceeded,
        RemoteError,
        RetainedExceeded,
        SenderFalse,
        StateBusy,
        StateUnusable,
        StorageFailed,
        StorageFull,
        SubscriptionsExceeded,
        TakenOver,
        TokenInvalid,
        TokenMissing,
        TrishulaError,
    )
    from trishula.runtime.pending import Pending
    from trishula.settings import Settings, SettingsInvalid
    from trishula.sync import Bus, connect

__all__ = [
    "Agent",
    "AgentInfo",
    "AgentUnknown",
    "AnswerEarly",
    "AnswerRefused",
    "ArgumentInvalid",
    "AsyncClient",
    "AttachmentAway",
    "AttachmentDamaged",
    "AttachmentTooLarge",
    "AttachmentUnknown",
    "AttachmentsFull",
    "AttachmentsOff",
    "Bus",
    "BusUnreachable",
    "CallFailed",
    "CallsExceeded",
    "CapabilityForbidden",
    "Client",
    "ConnectionsExceeded",
    "CopiesUnavailable",
    "DeadLetter",
    "Delivery",
    "Fetched",
    "FallbackOn",
    "FetchesExceeded",
    "FileInvalid",
    "FolderUnusable",
    "ForwardingForbidden",
    "IdReused",
    "InstanceUnknown",
    "InstancesExceeded",
    "KeyUnknown",
    "LifeEvent",
    "LeaseTaken",
    "LeaseUnknown",
    "LeaseUnsure",
    "LeasesExceeded",
    "LoopQuarantined",
    "MailboxBusy",
    "MailboxFull",
    "Message",
    "MessageCancelled",
    "MessageExpired",
    "MessageHistory",
    "MessageInvalid",
    "MessageLife",
    "MessageSetAside",
    "MessageStatus",
    "MessageUnknown",
    "NodeBusy",
    "NodeFailed",
    "NodeStopping",
    "NodeUnknown",
    "NotAllSent",
    "NotAllowed",
    "OutboxFull",
    "OutcomeUnknown",
    "PayloadNotJson",
    "PayloadTooLarge",
    "Pending",
    "ProcedureUnknown",
    "RateLimited",
    "ReadsTooSlowly",
    "Receipt",
    "RecipientForbidden",
    "RecipientUnknown",
    "RegistrationsExceeded",
    "RetainedExceeded",
    "RemoteError",
    "SenderFalse",
    "Settings",
    "SettingsInvalid",
    "StateBusy",
    "StateUnusable",
    "StorageFailed",
    "StorageFull",
    "SubscriptionsExceeded",
    "TakenOver",
    "TokenInvalid",
    "TokenMissing",
    "TrishulaError",
    "connect",
    "current_delivery",
]

_HOMES = {
    "Agent": "agent",
    "AgentInfo": "contract.answers",
    "LifeEvent": "contract.answers",
    "MessageHistory": "contract.answers",
    "MessageLife": "contract.answers",
    "MessageStatus": "contract.answers",
    "AsyncClient": "async_client",
    "Pending": "runtime.pending",
    "Bus": "sync",
    "connect": "sync",
    "Client": "client",
    "Delivery": "contract.deliveries",
    "Fetched": "contract.deliveries",
    "current_delivery": "contract.deliveries",
    "Message": "contract.message",
    "Receipt": "contract.receipts",
    "Settings": "settings",
    "SettingsInvalid": "settings",
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
