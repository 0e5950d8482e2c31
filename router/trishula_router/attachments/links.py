"""The links between messages and attachments, on record: the store remembers a short text for each."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import msgspec
from twisted.logger import Logger

from trishula.contract.attached import AttachmentInfo
from trishula_router.attachments.ledger import Link
from trishula_router.background import log_fault
from trishula_router.store.interface import Store

__all__ = ["PREFIX", "forget", "read", "recall", "write_down"]

log = Logger()

#: Under what the store remembers them.
PREFIX = "attachment:"


class _Noted(msgspec.Struct):
    info: AttachmentInfo
    at: int


async def recall(store: Store) -> list[Link]:
    """All that are on record."""
    return read(await store.remembered(PREFIX))


def read(remembered: Mapping[str, str]) -> list[Link]:
    """Those that a store remembers."""
    links = []
    for key, text in remembered.items():
        agent, _, message_id = key.removeprefix(PREFIX).partition(":")
        with contextlib.suppress(msgspec.MsgspecError):
            noted = msgspec.json.decode(text, type=_Noted)
            links.append(Link(agent, message_id, noted.info, noted.at))
    return links


def write_down(store: Store, link: Link) -> None:
    """Put one on record; what is handed to the store behind it is durable with it, or later."""
    text = msgspec.json.encode(_Noted(link.info, link.at)).decode()
    store.remember({_key(link): text}).addErrback(log_fault, log, "a link to an attachment could not be written down")


def forget(store: Store, link: Link) -> None:
    """Take one off the record."""
    store.remember({_key(link): ""}).addErrback(log_fault, log, "a link to an attachment could not be forgotten")


def _key(link: Link) -> str:
    return f"{PREFIX}{link.agent}:{link.message_id}"
