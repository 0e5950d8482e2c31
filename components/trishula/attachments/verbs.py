"""Sending a message with a file, and saving the file of a message: what the verbs of agents and clients are made of."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from trishula.attachments import transfer
from trishula.attachments.local_files import FetchedFile, SentFile
from trishula.attachments.transfer import Outgoing, Progress
from trishula.contract import uris
from trishula.contract.addresses import agent_of
from trishula.contract.attached import ATTACHMENT, AttachmentInfo, attachment_of
from trishula.contract.encrypted import encrypted_for, no_key_for
from trishula.contract.message import Message, ReceivedMessage
from trishula.contract.receipts import Receipt
from trishula.contract.sealed import ENCRYPTED_TYPE, sealed_info
from trishula.contract.texts import show_value
from trishula.errors import (
    ArgumentInvalid,
    AttachmentsOff,
    AttachmentUnknown,
    NotAllowed,
    ProcedureUnknown,
    RemoteError,
)
from trishula.messaging.engine import Engine
from trishula.messaging.own_keys import boxes_for_file

__all__ = ["PATIENCE_S", "save", "send"]

#: For so long nothing may get on.
PATIENCE_S = 60.0
#: The node may be another one by the time the message goes, or have let the file go.
_MOST_TRIES = 5


def _silent(done_bytes: int, size_bytes: int) -> None:
    pass


async def send(
    engine: Engine,
    to: str,
    attachment: str | os.PathLike[str],
    *,
    type: Any,
    payload: object,
    timeout_s: float | None,
    progress: Progress | None,
    options: dict[str, Any],
) -> Receipt:
    """Send a file, and then the message that names it; see :meth:`trishula.verbs.Verbs.send`."""
    if payload is not None and not isinstance(payload, Mapping):
        raise ArgumentInvalid(
            f"payload is {show_value(payload)}; a message with an attachment has a map or nothing: the attachment is "
            f'named in it, under "{ATTACHMENT}"'
        )
    if payload is not None and ATTACHMENT in payload:
        raise ArgumentInvalid(f'payload has the key "{ATTACHMENT}" already; the attachment is named there')
    if options.get("id") is None:
        options["id"] = engine.sending.new_id()
    patience_s = max(timeout_s or 0.0, PATIENCE_S)
    # Now: what is changed in it while the file travels doesn't travel.
    content = dict(payload or {})
    boxes = boxes_for_file(engine.settings, str(engine.address)) if options.get("encrypt") else None
    wire = {"type": type, "id": options["id"], "to": to}
    if boxes is not None:
        # That it can't be encrypted is said before the file is read.
        boxes.file_key(wire, "")
    file = await transfer.in_thread(engine, lambda: SentFile.open(attachment))
    try:
        outgoing: Outgoing = file
        content[ATTACHMENT] = file.info.to_wire()
        if boxes is not None:
            from trishula.attachments.sealing import SealedFile

            key, around = boxes.file_key(wire, file.info.digest)
            outgoing = closed = await transfer.in_thread(engine, partial(SealedFile, file, key, around))
            content[ATTACHMENT] = sealed_info(closed.sealed)
        tries = 0
        while True:
            await transfer.send(engine, outgoing, patience_s, progress or _silent)
            sent = engine.send(to, type=type, payload=content, **options)
            try:
                return await (sent if timeout_s is None else engine.confirmed(sent, options["id"], timeout_s))
            except AttachmentUnknown:
                tries += 1
                if tries >= _MOST_TRIES:
                    raise
    finally:
        file.close()


async def save(
    engine: Engine,
    message: Message | str,
    to: str | os.PathLike[str],
    *,
    sender: str | None,
    timeout_s: float,
    replace: bool,
    progress: Progress | None,
) -> Path:
    """Fetch the file of a message; see :meth:`trishula.verbs.Verbs.save_attachment`."""
    sealed = None
    if isinstance(message, str):
        info, sender = await _described(engine, message, sender, timeout_s)
        message_id = message
        if info.media_type == ENCRYPTED_TYPE:
            raise ArgumentInvalid(
                f"the file of the message {message} is encrypted, and its key is in the message: save it from the "
                "message, as its recipient gets that"
            )
    elif encrypted_for(message.payload) is not None:
        raise ArgumentInvalid(no_key_for(engine.address))
    elif isinstance(message, ReceivedMessage) and message.sealed is not None:
        sealed = message.sealed
        info, message_id, sender = sealed.info, message.id, agent_of(message.sender or "")
    else:
        named = attachment_of(message.payload)
        if named is None:
            raise ArgumentInvalid(f"the message {message.id} names no attachment")
        info, message_id, sender = named, message.id, agent_of(message.sender or engine.address.agent)
    file = await transfer.in_thread(engine, lambda: FetchedFile(to, info, replace=replace, sealed=sealed).open())
    try:
        await transfer.fetch(engine, message_id, sender, file, timeout_s, progress or _silent)
        return await transfer.in_thread(engine, file.finish)
    finally:
        file.close()


async def _described(
    engine: Engine, message_id: str, sender: str | None, timeout_s: float
) -> tuple[AttachmentInfo, str]:
    """What a message names, and who sent it, as the node tells it."""
    options = {} if sender is None else {"from": sender}
    try:
        told = await engine.asking.request(uris.ATTACHMENT_OF, message_id, options, timeout_s=timeout_s)
    except (NotAllowed, ProcedureUnknown):
        raise AttachmentsOff(transfer.none_at(engine)) from None
    info = attachment_of({ATTACHMENT: {key: value for key, value in dict(told).items() if key in _KEYS}})
    if info is None or not isinstance(told.get("from"), str):
        raise RemoteError(f"the node's answer can't be read: {show_value(told)}", remote_uri=uris.ATTACHMENT_OF)
    return info, told["from"]


_KEYS = {field.encode_name for field in msgspec.structs.fields(AttachmentInfo)}
