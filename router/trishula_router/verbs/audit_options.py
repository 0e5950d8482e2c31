"""The options of the questions to the journal; see :mod:`.arguments`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec

from trishula_router.verbs.arguments import Options
from trishula_router.verbs.scalars import INSTANT_RULE, POSITION_RULE, Instant, Position, Text

__all__ = ["QueryOptions", "WhyOptions"]


class QueryOptions(Options, frozen=True, kw_only=True):
    """``audit.query``."""

    agent: Text | None = None
    id: Text | None = None
    kind: Text | None = None
    since: Instant | None = None
    until: Instant | None = None
    after: Position = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    node: Text | None = None
    RULES: ClassVar[Mapping[str, str]] = {
        "agent": "the name of an agent",
        "id": "the id of a message",
        "node": 'the name of a node, or "*" for all',
        "kind": "a kind of record, such as accepted, delivered or done",
        "since": INSTANT_RULE,
        "until": INSTANT_RULE,
        "after": POSITION_RULE,
        "limit": "an integer from 1 to 1000",
    }


class WhyOptions(Options, frozen=True, kw_only=True):
    """``audit.why``: whose message, if several senders used the id."""

    sender: Text | None = msgspec.field(name="from", default=None)
    RULES: ClassVar[Mapping[str, str]] = {"from": "the sender's address"}
