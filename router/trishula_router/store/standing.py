"""What records make of a message: one number that only grows, so that journals can be read in any order.

Each record that tells of a message's state stands for a number, and the message is at the highest of them:

* ``done`` is above all: work that was done is not undone by what another node thought meanwhile.
* ``purged`` is next: the body is gone, so there is nothing left to deliver.
* Between the others counts the *life* first, then how final it is. A message begins its first life, 0, open; each
  ``replayed`` record begins the next one, open again. Within a life ``dead`` is above ``cancelled``, that above
  ``expired``, that above open. So nodes that ended a life differently agree on one end, and a late ``dead`` of the life
  before doesn't end the one that a replay began.

Records that settle a message of a later life state it (``lives``); without, it is the first one.

Nothing here does I/O; :func:`tellings` reads records, :func:`standing_of` and :func:`state_of` translate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from trishula_router.store.facts import (
    DeliveredFacts,
    HandedFacts,
    PurgedFacts,
    RedactedFacts,
    ReplayedFacts,
    ReturnedFacts,
    SettledFacts,
    SurfacedFacts,
    read_facts,
)
from trishula_router.store.journal import Kind
from trishula_router.store.messages import State

__all__ = ["PURGED_LIFE", "Telling", "standing_of", "state_of", "tellings"]

#: The life that a purge begins and ends: behind every other.
PURGED_LIFE = 1 << 30

_DONE = PURGED_LIFE << 3
#: From open to dead.
_RANKED = (State.OPEN, State.EXPIRED, State.CANCELLED, State.DEAD)
_RANKS = {state: rank for rank, state in enumerate(_RANKED)}

_FINAL = {state.name.lower(): state for state in State if state is not State.OPEN}


class Telling(NamedTuple):
    """What a record tells of one message.

    Attributes:
        position: the message's, in the numbering of whoever wrote the record.
        standing: at least so far it is then; -1 if nothing is told of that.
        attempt: which delivery it was; 0 if it was none.
        failures: how often it has failed then; 0 if nothing is told of that.
        expires_at: ms; of a message that was replayed, 0 if it isn't stated.
        holder: who it was delivered to.
        reason: why it was settled.
        hop: how often it has been handed over then; 0 if nothing is told of that.
        keeper: the node that it was handed to.
        surfaced: whether it was put into a model's context then.
        redacted: whether its body was deleted then.
    """

    position: int
    standing: int = -1
    attempt: int = 0
    failures: int = 0
    expires_at: int = 0
    holder: str | None = None
    reason: str | None = None
    hop: int = 0
    keeper: str = ""
    surfaced: bool = False
    redacted: bool = False


def standing_of(state: State, life: int) -> int:
    """The number of a state in a life."""
    return _DONE if state is State.DONE else life << 2 | _RANKS[state]


def state_of(standing: int) -> tuple[State, int]:
    """The state of a number, and the life."""
    return (State.DONE, 0) if standing == _DONE else (_RANKED[standing & 3], standing >> 2)


def tellings(kind: str, facts: bytes) -> list[Telling]:
    """What a record other than ``accepted`` tells of messages; nothing if its kind is unknown or tells of none.

    A newer node may tell it in another way, and a damaged record tells nonsense: nothing either.
    """
    read = _READERS.get(kind)
    if read is None:
        return []
    try:
        return read(kind, facts)
    except ValueError:
        # Lists that should be as long as each other are not.
        return []


def _delivered(kind: str, facts: bytes) -> list[Telling]:
    told = read_facts(facts, DeliveredFacts)
    if told is None:
        return []
    return [Telling(position, attempt=attempt, holder=told.to) for position, attempt in told.messages]


def _surfaced(kind: str, facts: bytes) -> list[Telling]:
    told = read_facts(facts, SurfacedFacts)
    if told is None:
        return []
    return [Telling(position, surfaced=True) for position, _ in told.messages]


def _returned(kind: str, facts: bytes) -> list[Telling]:
    told = read_facts(facts, ReturnedFacts)
    if told is None:
        return []
    return [Telling(position, failures=failures) for position, failures, _ in told.messages]


def _handed(kind: str, facts: bytes) -> list[Telling]:
    told = read_facts(facts, HandedFacts)
    if told is None:
        return []
    return [
        Telling(position, hop=hop, keeper=told.keeper)
        for position, hop in zip(told.messages, told.hops, strict=True)
        if hop > 0
    ]


def _settled(kind: str, facts: bytes) -> list[Telling]:
    told, state = read_facts(facts, SettledFacts), _FINAL[kind]
    if told is None:
        return []
    return [
        Telling(position, standing_of(state, life), reason=told.reason)
        for position, life in zip(told.messages, told.lives or [0] * len(told.messages), strict=True)
    ]


def _replayed(kind: str, facts: bytes) -> list[Telling]:
    told = read_facts(facts, ReplayedFacts)
    if told is None:
        return []
    # Before there were other nodes to tell it to, neither was stated.
    lives = told.lives or [1] * len(told.messages)
    ends = told.expires_at or [0] * len(told.messages)
    return [
        Telling(position, standing_of(State.OPEN, life), expires_at=expires_at)
        for position, life, expires_at in zip(told.messages, lives, ends, strict=True)
    ]


def _purged(kind: str, facts: bytes) -> list[Telling]:
    told = read_facts(facts, PurgedFacts)
    if told is None:
        return []
    return [Telling(position, standing_of(State.DEAD, PURGED_LIFE)) for position in told.messages]


def _redacted(kind: str, facts: bytes) -> list[Telling]:
    told = read_facts(facts, RedactedFacts)
    if told is None:
        return []
    return [Telling(position, redacted=True) for position in told.messages]


_READERS: dict[str, Callable[[str, bytes], list[Telling]]] = {
    str(Kind.DELIVERED): _delivered,
    str(Kind.SURFACED): _surfaced,
    str(Kind.RETURNED): _returned,
    str(Kind.HANDED): _handed,
    str(Kind.REPLAYED): _replayed,
    str(Kind.PURGED): _purged,
    str(Kind.REDACTED): _redacted,
    **dict.fromkeys(_FINAL, _settled),
}
