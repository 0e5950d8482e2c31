"""Receipts: what a node answers for each message that it is sent."""

from __future__ import annotations

import msgspec

__all__ = ["Missed", "Receipt"]


class Missed(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who does not get a broadcast, and why: ``error`` is the URI of a refusal, ``detail`` a sentence."""

    to: str
    error: str | None = None
    detail: str | None = None


class Receipt(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the node answered for one message. A sender only sees accepted ones: a refusal is raised as its error.

    Attributes:
        id: the message's id.
        status: ``accepted``; ``duplicate`` if the node had it already (a repeat: just as good); else ``refused``.
        node: the node that stored it.
        seq: its number in that node's journal.
        copies: on how many nodes it was on disk when this was answered.
        error: of a refusal: the error's URI.
        detail: of a refusal: the sentence.
        retry_after_s: of a temporary refusal: when to try again.
        missed: of a broadcast: who does not get it.
        warning: what it is likely to wait for, such as a capability that nobody has.
    """

    id: str
    status: str
    node: str | None = None
    seq: int | None = None
    copies: int | None = None
    error: str | None = None
    detail: str | None = None
    retry_after_s: float | None = None
    missed: tuple[Missed, ...] = ()
    warning: str | None = None
