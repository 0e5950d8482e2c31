"""Which records a question to a journal is about.

A record tells of agents and messages by itself: of who joined, of who was refused what, of a message when it was
accepted. Other records list messages by position: of those the rows of the messages tell who sent what to whom, and
what became of it. A record fits a question if the record itself is all that is asked for, or if one of the messages
that the record tells of is. It is never patched together of both: a record of two agents' messages is none of a message
between the two.

What a message is about (its procedure and its subject) stands in its body alone. Retention deletes bodies, so a
question about that finds what still has one.

Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from trishula.contract.addresses import is_capability
from trishula_router.mail.mailroom import is_of, is_party
from trishula_router.store.facts import POSITION_LISTS
from trishula_router.store.journal import Kind
from trishula_router.store.messages import StoredMessage

__all__ = ["REFUSED", "Asked", "Heading", "RecordFilter", "positions_in", "read_heading"]

#: An outcome that no message has: who is refused has accepted nothing.
REFUSED = "refused"


class Asked(Protocol):
    """What is asked for: all that is not ``None``; see ``trishula.audit.query``."""

    @property
    def agent(self) -> str | None: ...

    @property
    def peer(self) -> str | None: ...

    @property
    def id(self) -> str | None: ...

    @property
    def type(self) -> str | None: ...

    @property
    def outcome(self) -> str | None: ...

    @property
    def procedure(self) -> str | None: ...

    @property
    def subject(self) -> str | None: ...


class Heading(msgspec.Struct, frozen=True, gc=False):
    """What a message is about, as its body says."""

    procedure: str | None = None
    subject: str | None = None


_read_heading = msgspec.json.Decoder(Heading).decode


def read_heading(body: bytes | None) -> Heading | None:
    """Read the heading of a message; ``None`` if its body is gone, or garbled."""
    try:
        return None if body is None else _read_heading(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class RecordFilter:
    """A question, as a judgement of records and messages.

    Args:
        asked: the question.

    Attributes:
        asks_for_messages: whether it is about agents or messages at all; else each record fits.
        asks_for_headings: whether the bodies of messages must be read.
        asks_what_became: whether it is about what only the store tells: bodies, and how messages have ended by now.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._parties = [agent for agent in (asked.agent, asked.peer) if agent is not None]
        #: As people spell it.
        self._subject = None if asked.subject is None else asked.subject.casefold()
        self.asks_for_headings = asked.procedure is not None or asked.subject is not None
        self.asks_what_became = self.asks_for_headings or asked.outcome not in (None, REFUSED)
        of_message = (asked.id, asked.type, asked.outcome)
        self.asks_for_messages = (
            bool(self._parties) or self.asks_for_headings or any(one is not None for one in of_message)
        )

    def fits_by_itself(self, kind: str, facts: Mapping[str, Any]) -> bool:
        """Whether a record is all that is asked for, without the messages that it tells of."""
        asked = self._asked
        if self.asks_for_headings or (asked.outcome is not None and (asked.outcome, kind) != (REFUSED, Kind.REFUSED)):
            return False
        if asked.id is not None and facts.get("id") != asked.id:
            return False
        if asked.type is not None and facts.get("type") != asked.type:
            return False
        named = [facts.get(key) for key in ("agent", "from", "to", "by")]
        return all(any(isinstance(one, str) and is_of(party, one) for one in named) for party in self._parties)

    def messages_of(self, kind: str, position: int, facts: Mapping[str, Any]) -> list[int]:
        """The positions of the messages whose rows decide whether a record fits that doesn't by itself."""
        if kind != Kind.ACCEPTED:
            return positions_in(facts)
        # What the row of such a message knows beyond its record: what became of it, and to whom it was handed.
        by_holder = bool(self._parties) and is_capability(str(facts.get("to")))
        is_more = by_holder or self.asks_for_headings or self._asked.outcome is not None
        return [position] if is_more else []

    def is_asked_for(self, message: StoredMessage) -> bool:
        """Whether a message is all that is asked for, as far as its row tells."""
        asked = self._asked
        return (
            asked.id in (None, message.id)
            and asked.type in (None, message.type)
            and asked.outcome in (None, message.state_word)
            and all(is_party(party, message) for party in self._parties)
        )

    def is_about(self, heading: Heading) -> bool:
        """Whether a message with this heading is about what is asked for."""
        if self._asked.procedure not in (None, heading.procedure):
            return False
        return self._subject is None or (heading.subject is not None and self._subject in heading.subject.casefold())


def positions_in(facts: Mapping[str, Any]) -> list[int]:
    """The messages that a record tells of and doesn't name: ends, returns and deliveries list their positions."""
    listed: Sequence[Any] = [one for name in POSITION_LISTS for one in facts.get(name, ())]
    return [one[0] if isinstance(one, list) else one for one in listed]
