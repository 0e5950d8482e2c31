"""Signatures of messages, which stand in their accepted records, and the bodies that are read back with them.

A signature (:mod:`trishula.contract.signed`) is the sender's, and the node passes it on. It stands in the record rather
than in the body: so it is in the chain, is copied by nodes that know nothing of it, and outlives the body. Whoever
reads a body from the store gets it as the key ``signature`` of the message; what goes to clients has it beside the
message, because clients of earlier releases refuse a message with a key that they don't know.
"""

from __future__ import annotations

from typing import Any

import msgspec

from trishula_router.store.facts import AcceptedFacts, read_facts

__all__ = ["split_signature", "with_signature"]

_KEY = "signature"


def with_signature(envelope: bytes, facts: object) -> bytes:
    """A body with the signature that its record has, if it has one."""
    # Looked for as text first: this runs for each body that is read back.
    if not isinstance(facts, bytes) or b'"signature":' not in facts or not envelope.endswith(b"}"):
        return envelope
    told = read_facts(facts, AcceptedFacts)
    if told is None or not told.signature:
        return envelope
    return b'%b,"%b":%b}' % (envelope[:-1], _KEY.encode(), msgspec.json.encode(told.signature))


def split_signature(wire: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A message as clients know it, and what stands beside it: ``{"signature": …}``, or nothing."""
    if _KEY not in wire:
        return wire, {}
    # The entry keeps the whole one, for the next attempt.
    return {key: value for key, value in wire.items() if key != _KEY}, {_KEY: wire[_KEY]}
