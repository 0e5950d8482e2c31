"""What an agent signs of a message, and how the signature travels: the same in every language, spelled out to the byte.

The *statement* is what the signature is over::

    trishula: message, 1␊                        the use and the version, in ASCII, with a line feed
    {"from":"dc","id":"…","payload":…, …}        a map of these keys, as RFC 8785 writes it

=================  =================================================================================================
``type``, ``id``,  as they travel
``to``
``from``           the sender's whole address, also where the sender leaves it to the node
``timestamp``      always: a message without one can't be signed
``payload``        always; ``null`` if there is none
``priority``       always; 3 if there is none
``procedure``,     where the message has them
``reply_to``,
``subject``,
``ttl_ms``
``deadline_at``    as the sender stated it: a node corrects it by the sender's clock, so the signature has it, too
=================  =================================================================================================

``seq`` and ``traceparent`` are not signed, because they change on the way by files and in tracing, and
``accepted_at`` is the node's. What the map means is signed, not its bytes: nodes and clients read and write it anew,
from MessagePack, CBOR or JSON (:mod:`trishula.contract.canonical`).

The *signature* travels beside the message, in ``options.signatures`` of ``mailbox.send`` and as ``signature`` of a
delivery: text of four parts with dots between them::

    1.0f3a5b7c9d1e2f30.-.MEUCIQ…     the version; the first 16 hexadecimal digits of the public key; ``deadline_at``
                                     in ms or ``-``; the 64 bytes of Ed25519 in Base64 (URL-safe, without ``=``)

The first line keeps a signature that is made here from standing for anything else that the key proves. The recipient is
signed, so nobody can hand a message on as one to himself; id and timestamp are, so a receiver that remembers ids knows
one that comes again. Nothing here does I/O.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from trishula.contract.canonical import canonical
from trishula.contract.message import DEFAULT_PRIORITY, DEFAULT_TTL_MS

__all__ = [
    "MEMORY_MS",
    "SIGNATURE_PATTERN",
    "SIGNATURE_REFUSED",
    "SIGNATURE_RULE",
    "SLACK_MS",
    "Signature",
    "key_id",
    "read_signature",
    "statement",
]

_USE = b"trishula: message, 1\n"
_VERSION = "1"
_KEY_ID_LENGTH = 16
#: Those that are signed where a message has them.
_OPTIONAL = ("procedure", "reply_to", "subject", "ttl_ms")

SIGNATURE_PATTERN = r"^1\.[0-9a-f]{16}\.(-|0|[1-9][0-9]{0,15})\.[A-Za-z0-9_-]{86}\Z"
SIGNATURE_RULE = "a signature, '1.KEY.DEADLINE.VALUE', or null"
#: How the reason of a message begins that its receiver refuses for its signature, so that it can be counted.
SIGNATURE_REFUSED = "signature refused"
#: Two clocks may differ by so much before the time of what was signed counts as over.
SLACK_MS = 3_600_000
#: How long a receiver remembers ids, so that nothing signed comes back to it: dated an hour ahead, an hour too late.
MEMORY_MS = DEFAULT_TTL_MS + 2 * SLACK_MS
_is_signature = re.compile(SIGNATURE_PATTERN).match


class Signature(msgspec.Struct, frozen=True):
    """A signature that was read.

    Attributes:
        key: the first 16 hexadecimal digits of the public key.
        deadline_at: the message's, as the sender stated it, ms.
        value: 64 bytes.
    """

    key: str
    deadline_at: int | None
    value: bytes

    def __str__(self) -> str:
        value = base64.urlsafe_b64encode(self.value).rstrip(b"=").decode()
        deadline = "-" if self.deadline_at is None else self.deadline_at
        return f"{_VERSION}.{self.key}.{deadline}.{value}"


def key_id(public: str) -> str:
    """How a signature names the key (64 hexadecimal digits) that it is of."""
    return public[:_KEY_ID_LENGTH]


def read_signature(text: object) -> Signature | None:
    """A signature as it travels; ``None`` if it is none, or of a version that nobody knows here."""
    if not isinstance(text, str) or _is_signature(text) is None:
        return None
    _, key, deadline, value = text.split(".")
    return Signature(key, None if deadline == "-" else int(deadline), base64.urlsafe_b64decode(f"{value}=="))


def statement(wire: Mapping[str, Any], *, sender: str, deadline_at: int | None) -> bytes:
    """What is signed of a message.

    Args:
        wire: the message as it travels, with its timestamp.
        sender: the address that it is from.
        deadline_at: as the sender stated it.

    Raises:
        ValueError: the payload is no JSON.
    """
    signed = {
        "type": wire["type"],
        "id": wire["id"],
        "from": sender,
        "to": wire["to"],
        "timestamp": wire["timestamp"],
        "payload": wire.get("payload"),
        "priority": wire.get("priority", DEFAULT_PRIORITY),
    }
    signed |= {key: wire[key] for key in _OPTIONAL if wire.get(key) is not None}
    if deadline_at is not None:
        signed["deadline_at"] = deadline_at
    return _USE + canonical(signed)
