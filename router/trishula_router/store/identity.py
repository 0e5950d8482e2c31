"""What makes two messages one: whose an id is, what is equal, and for how long an id is known.

Ids belong to *agents*: the key of a message is (agent name of its sender, id), whichever instance of the agent sent it.
So a script that is run again repeats what the script before it sent.

Under one key

* what is **equal** is a repeat. Equal are type, recipient, procedure and payload, whose digest (:func:`content_digest`)
  is kept with the message, because bodies are deleted long before ids are forgotten. Instants, priority and time to
  live are not part of it: whoever sends again does so later;
* anything else is refused: it would be taken for what was sent before, and get lost.

Another cell's broadcast comes recipient by recipient (``Draft.apart``): to a further recipient an equal message is no
repeat, but a further row of the same use.

Of a message that was accepted before digests were kept, the body is asked, and where that is gone, type and recipient.

An id is **forgotten** when its message was accepted too long ago (``retention.ids``) and can't be delivered any more:
it is settled, and its time is over. The next message under that id is the next *use* of it, and the node that accepts
it writes the number into the record: so nodes that copy it need not agree about what is forgotten when. In the end rows
go as well, and from where a node counts then, :mod:`.first_use` says.

What two nodes accept apart from each other as the same use of a key is one message if it is equal, else two. Records of
nodes that know no digests are told apart as those nodes do, by the whole address of the sender.

Nothing here does I/O.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from trishula.contract.addresses import BROADCAST, agent_of
from trishula_router.store.messages import Accepted, Draft, Earlier, State, StoredMessage

__all__ = [
    "Ids",
    "Key",
    "content_digest",
    "digest_of_envelope",
    "earlier",
    "is_known",
    "is_one_message",
    "key_of",
    "latest_use",
    "repeated",
]

#: (agent, id)
Key = tuple[str, str]

#: Half of a SHA-256: nobody has to be kept from making two messages of his own that look the same.
_DIGEST_LENGTH = 32
#: A map whose keys come in another order is the same one.
_encode = msgspec.json.Encoder(order="deterministic").encode


def key_of(message: Draft | StoredMessage) -> Key:
    """The key of a message."""
    return agent_of(message.sender), message.id


def content_digest(wire: Mapping[str, Any]) -> str:
    """The digest of what makes a message, as it travels, the same as another one."""
    content = wire["type"], wire["to"], wire.get("procedure"), wire.get("payload")
    return hashlib.sha256(_encode(content)).hexdigest()[:_DIGEST_LENGTH]


def digest_of_envelope(envelope: bytes | None) -> str:
    """The same of a stored body; "" if it is gone or can't be read."""
    try:
        return content_digest(msgspec.json.decode(envelope or b""))
    except (msgspec.MsgspecError, UnicodeDecodeError, LookupError, TypeError):
        return ""


def latest_use(found: Iterable[StoredMessage]) -> list[StoredMessage]:
    """Of all messages under one key those of the latest use."""
    messages = list(found)
    latest = max((message.use for message in messages), default=0)
    return [message for message in messages if message.use == latest]


def is_known(found: Iterable[StoredMessage], ids_since: int, at: int) -> bool:
    """Whether an id is remembered.

    Args:
        found: the messages of its latest use.
        ids_since: what was accepted from this instant (ms) on is remembered in any case.
        at: now.
    """
    return any(
        message.accepted_at >= ids_since or message.state is State.OPEN or message.expires_at > at for message in found
    )


def repeated(found: Sequence[StoredMessage], draft: Draft) -> list[StoredMessage]:
    """The message that a draft under its key repeats, at each of its recipients; nothing if it is another message.

    Args:
        found: those of the latest use.
        draft: without a digest if it is a notice, of which a message has one for each end, whatever its words.
    """
    same = {
        message.digest
        for message in found
        if (
            message.digest == draft.digest
            if message.digest and draft.digest
            else message.type == draft.type and message.recipient in draft.recipients
        )
    }
    return [message for message in found if message.digest in same]


def is_one_message(one: tuple[str, str, str, int], other: tuple[str, str, str, int]) -> bool:
    """Whether records of one key and one recipient, from two nodes, are of one message.

    Args:
        one, other: (sender, type, digest, use) each.
    """
    sender, type, digest, use = one
    other_sender, other_type, other_digest, other_use = other
    if digest and other_digest:
        return digest == other_digest and use == other_use
    return sender == other_sender and type == other_type and use == other_use


def earlier(found: Sequence[StoredMessage]) -> Earlier:
    """The message that uses an id, of which these are the rows."""
    first = found[0]
    same = [message for message in found if message.digest == first.digest and message.sender == first.sender]
    return Earlier(first.type, first.recipient if len(same) == 1 else BROADCAST, first.accepted_at)


def _earlier_in_batch(draft: Draft, at: int) -> Earlier:
    return Earlier(draft.type, draft.recipients[0] if len(draft.recipients) == 1 else BROADCAST, at)


class Ids:
    """Which of the messages of one batch are repeats, which are refused, and which use of its id each of the others is.

    Args:
        stored: what is stored under their keys: the latest use, in order of arrival.
        at: now.
        ids_since: see :func:`is_known`.
        first_use: see :mod:`.first_use`.
    """

    def __init__(
        self, stored: Mapping[Key, Sequence[StoredMessage]], at: int, ids_since: int, first_use: int = 0
    ) -> None:
        self._first_use = first_use
        self._stored = stored
        self._at = at
        self._ids_since = ids_since
        self._taken: dict[Key, list[tuple[Draft, tuple[int, ...]]]] = {}

    def known(self, key: Key, draft: Draft) -> Accepted | None:
        """What to answer if its id is in use; ``None`` if it is to be stored."""
        for first, positions in self._taken.get(key, ()):
            if not _is_same_draft(first, draft):
                return Accepted((), False, earlier=_earlier_in_batch(first, self._at))
            if not draft.apart or first.recipients == draft.recipients:
                return Accepted(positions, True)
        found = self._stored.get(key)
        if not found or not is_known(found, self._ids_since, self._at):
            return None
        same = repeated(found, draft)
        if same:
            here = [message for message in same if message.recipient in draft.recipients] if draft.apart else same
            return Accepted(tuple(message.position for message in here), True) if here else None
        return Accepted((), False, earlier=earlier(found))

    def use(self, key: Key, draft: Draft) -> int:
        """Which use of its id one that is to be stored is."""
        found = self._stored.get(key)
        if not found:
            return self._first_use
        is_further = draft.apart and is_known(found, self._ids_since, self._at) and repeated(found, draft)
        return found[0].use if is_further else max(self._first_use, found[0].use + 1)

    def taken(self, key: Key, draft: Draft, positions: tuple[int, ...]) -> None:
        """It was stored."""
        self._taken.setdefault(key, []).append((draft, positions))


def _is_same_draft(one: Draft, other: Draft) -> bool:
    if one.digest and other.digest:
        return one.digest == other.digest
    return one.type == other.type and one.recipients == other.recipients
