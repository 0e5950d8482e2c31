"""What one question of :mod:`.message_search` finds: it looks into bodies, and reads no more of them than it may."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from trishula.contract.encrypted import encrypted_for
from trishula.contract.searched import says
from trishula_router.mail.parcels import ROOM_BYTES
from trishula_router.store.messages import StoredMessage
from trishula_router.store.signed_bodies import split_signature

__all__ = ["READ_BYTES", "FoundMessages", "Searched"]

#: Bodies that one question reads, each counted once for each word that it is searched for; the first one may be larger.
READ_BYTES = 2 * 1024 * 1024
#: How much of that is read at a time: in between the node does what others want.
_RUN_BYTES = READ_BYTES // 8
#: A message in MessagePack is at most so much longer than its JSON, see :mod:`.parcels`: all of them are one frame.
_FOUND_BYTES = ROOM_BYTES * 4 // 9


class Searched(Protocol):
    """What is asked for: messages that fit all that is not ``None``; see ``trishula.mailbox.search``."""

    @property
    def words(self) -> Sequence[str]: ...

    @property
    def peer(self) -> str | None: ...

    @property
    def id(self) -> str | None: ...

    @property
    def thread(self) -> str | None: ...

    @property
    def since(self) -> int | None: ...

    @property
    def until(self) -> int | None: ...

    @property
    def encrypted(self) -> bool: ...

    @property
    def after(self) -> str | None: ...

    @property
    def max(self) -> int: ...


class _Body(msgspec.Struct, frozen=True, gc=False):
    subject: str | None = None
    procedure: str | None = None
    payload: msgspec.Raw = msgspec.Raw(b"null")


_read_body = msgspec.json.Decoder(_Body).decode


class FoundMessages:
    """What a question has found so far, and what it may still read.

    Args:
        asked: the question.
    """

    def __init__(self, asked: Searched) -> None:
        self._asked = asked
        self._messages: list[dict[str, Any]] = []
        self._seen: set[tuple[str, str]] = set()
        self._bytes = 0
        self._read_bytes = 0
        self._encrypted = self._without_body = 0

    def is_full(self) -> bool:
        """Whether it has as many as are wanted, or has read as much as one question may."""
        return len(self._messages) >= self._asked.max or self._read_bytes >= READ_BYTES

    def next_run(self, messages: Sequence[StoredMessage]) -> list[StoredMessage]:
        """The first of them, as many as may be read at a time; none: the question is at its end."""
        run: list[StoredMessage] = []
        run_bytes = 0
        for message in messages if not self.is_full() else ():
            run_bytes += self._cost_bytes(message)
            if (run and run_bytes > _RUN_BYTES) or (self._read_bytes and self._read_bytes + run_bytes > READ_BYTES):
                break
            run.append(message)
        return run

    def _cost_bytes(self, message: StoredMessage) -> int:
        return message.size_bytes * max(1, len(self._asked.words))

    def take(self, message: StoredMessage, body: bytes | None) -> bool:
        """Look at a message; whether it was looked at: no if it fits, and there is no room for it any more."""
        if (message.sender, message.id) in self._seen:
            # Another copy of what was sent to all.
            return True
        if body is None:
            self._without_body += 1
            return True
        if self._is_asked_for(body):
            if self._messages and self._bytes + message.size_bytes > _FOUND_BYTES:
                return False
            wire, beside = split_signature(msgspec.json.decode(body))
            self._seen.add((message.sender, message.id))
            self._messages.append({"message": wire, "state": message.state_word, **beside})
            self._bytes += message.size_bytes
        self._read_bytes += self._cost_bytes(message)
        return True

    def _is_asked_for(self, body: bytes) -> bool:
        words = self._asked.words
        if not words:
            return True
        read = _read_body(body)
        payload = bytes(read.payload)
        is_encrypted = b'"encrypted_for"' in payload and encrypted_for(msgspec.json.decode(payload)) is not None
        if says(words, b"null" if is_encrypted else payload, subject=read.subject, procedure=read.procedure):
            return True
        self._encrypted += is_encrypted
        return is_encrypted and self._asked.encrypted

    def told(self) -> dict[str, Any]:
        """The part of the answer that tells of messages."""
        return {"messages": self._messages, "encrypted": self._encrypted, "without_body": self._without_body}
