"""What changed between two states of the agents' file: tokens that came, went or got an end, and grants. No I/O.

The commands that change the file note it with who did it and why (:mod:`.change_notes`), and a node that sees the file
changed writes it into its journal (:mod:`.change_records`). Both compare outlines (:func:`outline_of`): what is to be
told of each agent, without what a token could be guessed from.

==============  ====================================================================================
``what``        of a token
==============  ====================================================================================
``new``         it was made, or holds again
``rotated``     its end was set or moved: another one takes its place
``revoked``     it was taken away before its end
``expired``     its end came; also of grants, some of which ended
==============  ====================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from trishula_router.agents.grants import ANYBODY
from trishula_router.agents.text import AgentEntry
from trishula_router.agents.tokens import TokenEntry

__all__ = ["Change", "Outline", "Revoked", "What", "changes_between", "first_end_ms", "outline_of", "short_id"]

What = Literal["new", "rotated", "revoked", "expired"]


class Outline(msgspec.Struct, frozen=True):
    """What is told of one agent.

    Attributes:
        grants: its role and its grants, in words.
        tokens: short id of each token → when it ends, ms; ``None``: never.
        over: the short ids of those tokens whose end has come.
        then: what ``grants`` will be when the next of them ends, then the next but one, and so on.
        changes_at: when that next one ends, ms; ``None``: none does.
        keys: the short ids of those tokens that are keys.
    """

    grants: str
    tokens: dict[str, int | None] = {}
    over: list[str] = []
    then: list[str] = []
    changes_at: int | None = None
    keys: list[str] = []


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that changed: a token, or else the grants of an agent.

    Attributes:
        agent: whose.
        token: the short id of the token; empty if the grants changed.
        what: what became of the token; of grants ``expired`` if some of them ended, and else ``None``.
        before: the grants of before; ``None`` for a token, and where the agent was not registered.
        after: the grants of now; ``None`` for a token, and where the agent is registered no more.
    """

    agent: str
    token: str = ""
    what: What | None = None
    before: str | None = None
    after: str | None = None


class Revoked(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens that a command took away everywhere.

    Attributes:
        agent: whose; ``*``: every agent's.
        before: all that were made before this instant, ms, wherever they are known; ``None``: only those of ``tokens``.
        tokens: the SHA-256 of each that was in the file; a digest lets nobody in, and nobody finds a token by it.
    """

    agent: str
    before: int | None = None
    tokens: list[str] = []


def short_id(token: TokenEntry) -> str:
    """Enough of a token's hash to tell tokens apart, and to name one: its first eight hexadecimal digits."""
    return token.sha256[:8]


def outline_of(record: AgentEntry, now_ms: int) -> Outline:
    """What is told of an agent as the file has it."""
    ends = {
        short_id(token): None if token.expires_at is None else round(token.expires_at * 1000) for token in record.tokens
    }
    over = [name for name, end in ends.items() if end is not None and end <= now_ms]
    now_s = now_ms / 1000
    instants = sorted({one.until for one in record.timed if one.until is not None and one.until > now_s})
    then = [_grants_of(record, instant) for instant in instants]
    changes_at = round(instants[0] * 1000) if instants else None
    keys = [short_id(token) for token in record.tokens if token.kind == "key"]
    return Outline(_grants_of(record, now_s), ends, over, then, changes_at, keys)


def _grants_of(record: AgentEntry, now_s: float) -> str:
    def listed(act: str) -> str:
        timed = [str(one) for one in record.timed if one.act == act and not one.is_over(now_s)]
        return " ".join([*record.lasting(act), *timed]) or "nothing"

    role = "operator" if record.operator else "observer" if record.observer else "agent"
    serve = "what no other is granted" if record.serve is None else listed("serve")
    # As in the file: who may hear all, as every agent could ever, is told nothing of it.
    hears = "" if (heard := listed("subscribe")) == ANYBODY else f"; subscribe {heard}"
    return f"{role}; send {listed('send')}; call {listed('call')}; serve {serve}{hears}"


def changes_between(before: Mapping[str, Outline], after: Mapping[str, Outline]) -> list[Change]:
    """What changed, agent by agent in the order of their names; of each agent the grants first."""
    found: list[Change] = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        ended = old is not None and new is not None and new.grants in old.then
        was, now = None if old is None else old.grants, None if new is None else new.grants
        if was != now:
            found.append(Change(name, what="expired" if ended else None, before=was, after=now))
        found += _of_tokens(name, old or Outline(""), new or Outline(""))
    return found


def _of_tokens(name: str, old: Outline, new: Outline) -> list[Change]:
    told: list[Change] = []
    for token in dict.fromkeys((*old.tokens, *new.tokens)):
        what: What | None = None
        if token not in old.tokens or (token in old.over and token in new.tokens and token not in new.over):
            what = "new"
        elif token not in new.tokens:
            # One whose end had come is on record as expired.
            what = None if token in old.over else "revoked"
        elif token in new.over:
            what = None if token in old.over else "expired"
        elif old.tokens[token] != new.tokens[token]:
            what = "rotated"
        if what is not None:
            told.append(Change(name, token, what))
    return told


def first_end_ms(outlines: Mapping[str, Outline]) -> float:
    """When the next token or grant ends, ms; ``inf`` if none does."""
    ends = [
        end
        for one in outlines.values()
        for token, end in one.tokens.items()
        if end is not None and token not in one.over
    ]
    ends += [one.changes_at for one in outlines.values() if one.changes_at is not None]
    return min(ends, default=float("inf"))
