"""Revocations, as a store remembers them: what a record ``token`` says that all linked nodes are to heed.

A record ``token`` with ``everywhere`` takes a token away at every node that holds the record, whoever wrote it. The
store remembers that in the transaction that makes the record durable (:func:`revocations_in`): a node that has told its
peers that it holds the record heeds it, also if it is killed in that moment, and also when the record is cut from the
journal years later. What is remembered is only ever added to, so nodes that hold the same journals have revoked the
same, in whatever order these came.

Nothing here does I/O.
"""

from __future__ import annotations

import re

import msgspec

from trishula.contract.addresses import is_agent_name
from trishula_router.store.facts import TokenFacts, read_facts
from trishula_router.store.journal import Kind

__all__ = ["EVERY_AGENT", "REVOKED", "Revocation", "read_revocation", "revocations_in"]

#: What the keys begin with under which a store remembers revocations.
REVOKED = "revoked:"
#: In place of an agent's name.
EVERY_AGENT = "*"
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
#: The year 10000, in ms since the epoch.
_END_OF_TIME_MS = 253_402_300_800_000


class Revocation(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens that were taken away, at every node.

    Attributes:
        agent: whose; ``*``: every agent's.
        at: when, ms, by the clock of the node that wrote it.
        by: who did it.
        reason: why.
        sha256: of the one token that is meant; empty: all that were made before ``before`` (ms).
        before: see there.
    """

    agent: str
    at: int
    by: str
    reason: str | None = None
    sha256: str = ""
    before: int = 0


_read = msgspec.json.Decoder(Revocation).decode


def revocations_in(kind: str, at: int, facts: bytes) -> dict[str, str]:
    """What a store is to remember of a record: nothing, if it revokes nothing everywhere."""
    if kind != Kind.TOKEN or b'"everywhere":true' not in facts:
        return {}
    told = read_facts(facts, TokenFacts)
    if told is None or not told.everywhere or told.what != "revoked":
        return {}
    if told.agent != EVERY_AGENT and not is_agent_name(told.agent):
        return {}
    if _SHA256.match(told.sha256):
        found = Revocation(told.agent, at, told.by, told.reason, told.sha256)
        return {f"{REVOKED}token:{told.sha256}": msgspec.json.encode(found).decode()}
    if told.before is not None and 0 < told.before < _END_OF_TIME_MS:
        found = Revocation(told.agent, at, told.by, told.reason, before=told.before)
        return {f"{REVOKED}before:{told.agent}:{told.before}": msgspec.json.encode(found).decode()}
    return {}


def read_revocation(text: str) -> Revocation | None:
    """What was remembered; ``None`` if that is garbled."""
    try:
        return _read(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
