"""The options of the questions to the journal; see :mod:`.arguments`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import msgspec

from trishula.contract.message import MAIL_TYPES, MailType
from trishula_router.verbs.arguments import Options
from trishula_router.verbs.scalars import INSTANT_RULE, POSITION_RULE, TEXT, Instant, Position, Text

__all__ = ["QueryOptions", "WhyOptions"]


class QueryOptions(Options, frozen=True, kw_only=True):
    """``audit.query``.

    A client of a release before knows neither ``archive``, ``with`` nor ``type``, ``outcome``, ``procedure``,
    ``subject`` and ``kinds``; ``kind`` is what its one kind is called.
    """

    agent: Text | None = None
    peer: Text | None = msgspec.field(name="with", default=None)
    id: Text | None = None
    type: MailType | None = None
    outcome: Literal["done", "dead", "expired", "cancelled", "refused"] | None = None
    procedure: Text | None = None
    subject: Annotated[str, msgspec.Meta(min_length=1, pattern=TEXT)] | None = None
    kind: Text | None = None
    kinds: Annotated[tuple[Text, ...], msgspec.Meta(max_length=100)] = ()
    since: Instant | None = None
    until: Instant | None = None
    after: Position = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    node: Text | None = None
    archive: bool = False
    RULES: ClassVar[Mapping[str, str]] = {
        "agent": "the name of an agent",
        "with": "the name of another agent: what is between the two",
        "id": "the id of a message",
        "type": "one of " + ", ".join(MAIL_TYPES),
        "outcome": "one of done, dead, expired, cancelled, refused",
        "procedure": "the name of a procedure, as COMMANDs have it",
        "subject": "a part of the subject of a message, at least one character",
        "kinds": "a list of at most 100 kinds of records",
        "node": 'the name of a node, or "*" for all',
        "kind": "a kind of record, such as accepted, delivered or done",
        "since": INSTANT_RULE,
        "until": INSTANT_RULE,
        "after": POSITION_RULE,
        "limit": "an integer from 1 to 1000",
        "archive": "true or false: whether records that the node has in its archive alone are searched too",
    }


class WhyOptions(Options, frozen=True, kw_only=True):
    """``audit.why``: whose message, if several senders used the id; and how far an archive was read for it.

    A client of a release before knows no archive.
    """

    sender: Text | None = msgspec.field(name="from", default=None)
    archive: bool = False
    after: Position = 0
    RULES: ClassVar[Mapping[str, str]] = {
        "from": "the sender's address",
        "archive": "true or false: whether the next segment of the node's archive is read, and not its store",
        "after": POSITION_RULE,
    }
